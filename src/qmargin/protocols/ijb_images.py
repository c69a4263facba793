"""The loosely cropped images of IJB-B and IJB-C: found, aligned by their landmarks, embedded."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.data import align_face, decode_rgb
from qmargin.data.align import FACE_SIZE
from qmargin.protocols.ijb_lists import IjbLists
from qmargin.scoring.features import Embedder, Features

SHOWN = 3


def embed_ijb(lists: IjbLists, folder: Path, embedder: Embedder, *, batch_size: int = 128) -> Features:
    """Features of every image of a set and of its mirror, in the order of the lists.

    Each image is cropped to 112x112 by the similarity transform of its five landmarks to `FACE_TEMPLATE`.

    Args:
        lists: of the set.
        folder: of its images, `loose_crop` in the usual release.
        embedder: takes RGB images of 112x112.
        batch_size: images at a time.

    Returns:
        Features with mirrors, raw.

    Raises:
        ValueError: images that are not there (with their number and the first few), one that cannot be decoded, or an
            embedder for images of another shape.
    """
    wanted = (3, FACE_SIZE, FACE_SIZE)
    if embedder.image.shape != wanted:
        raise ValueError(
            f"aligned faces are of shape {wanted}, this backbone was trained on {embedder.image.shape}: use one "
            "trained on 112x112 RGB crops, or give features of your own"
        )
    missing = [name for name in lists.images if not (folder / name).is_file()]
    if missing:
        rest = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise ValueError(
            f"{len(missing):,} of the {len(lists.images):,} images of the lists are not in {folder}: "
            f"{', '.join(missing[:SHOWN])}{rest}; is that the folder of loose crops?"
        )

    def decode(place: int) -> NDArray[np.uint8]:
        name = lists.images[place]
        try:
            return align_face(decode_rgb(folder / name), lists.landmarks[place])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    return embedder.embed(decode, len(lists.images), mirrors=True, batch_size=batch_size)
