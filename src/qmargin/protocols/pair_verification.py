"""Verification of a list of image pairs: ten-fold accuracy as LFW and the sets after it report it, EER, and TAR."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_text
from qmargin.metrics import PairAccuracy, TarAtFar, det_curve, eer_of, grid_pair_accuracy, pair_accuracy, tar_at_far_of
from qmargin.protocols.image_pairs import ImagePairs
from qmargin.protocols.verification import FARS
from qmargin.scoring.features import Embedder, Features


@dataclass(frozen=True, kw_only=True)
class PairReport:
    """Figures of one backbone on one list of pairs."""

    set_name: str
    sha256: str  # of the list, or of the .bin set
    images: int  # distinct
    genuine: int
    impostor: int
    folds: int
    flip: bool  # features of image and mirror were added
    accuracy: PairAccuracy  # threshold among the scores of the other folds
    grid_accuracy: PairAccuracy  # threshold on the grid of the public scripts
    eer: float
    points: tuple[TarAtFar, ...]  # TAR by falling FAR, as far as the impostors go

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=2, default=_plain) + "\n")


def verify_pairs(pairs: ImagePairs, features: Features, *, flip: bool) -> PairReport:
    """Cosines of the pairs, and their figures.

    Args:
        pairs: the list.
        features: of `pairs.images`, in their order; with mirrors where `flip`.
        flip: add the raw features of image and mirror, as the public scripts do; else the image's alone.

    Returns:
        The report; write it with `save`.

    Raises:
        ValueError: another number of features than images, no mirrors to flip, a feature that is zero or not finite.

    Sibling: `qmargin.protocols.verify`, all pairs of a split with intervals over subjects; a list of pairs does not
    say who its people are, so there is none here.
    """
    scores = _cosines(pairs, features, flip=flip)
    det = det_curve(scores, pairs.same)
    return PairReport(
        set_name=pairs.name,
        sha256=pairs.sha256,
        images=len(pairs.images),
        genuine=int(det.genuine),
        impostor=int(det.impostor),
        folds=len(np.unique(pairs.folds)),
        flip=flip,
        accuracy=pair_accuracy(scores, pairs.same, pairs.folds),
        grid_accuracy=grid_pair_accuracy(scores, pairs.same, pairs.folds),
        eer=eer_of(det),
        points=tuple(tar_at_far_of(det, far) for far in FARS if far * det.impostor >= 1.0),
    )


def embed_pairs(pairs: ImagePairs, embedder: Embedder, *, flip: bool, batch_size: int = 128) -> Features:
    """Embed every image of a list once; a ValueError names an image that cannot be decoded."""

    def decode(place: int) -> NDArray[np.uint8]:
        return embedder.image.decode(pairs.images[place])

    return embedder.embed(decode, len(pairs.images), mirrors=flip, batch_size=batch_size)


def _cosines(pairs: ImagePairs, features: Features, *, flip: bool) -> NDArray[np.float64]:
    if len(features.images) != len(pairs.images):
        raise ValueError(f"there are features of {len(features.images)} images, the list has {len(pairs.images)}")
    if flip and features.mirrors is None:
        raise ValueError("flip adds the features of the mirrored images, which were not computed: turn it off")
    vectors = np.asarray(features.images, np.float64)
    if flip and features.mirrors is not None:
        vectors = vectors + features.mirrors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if len(bad):
        raise ValueError(f"the feature of {pairs.images[bad[0]]} ({len(bad)} in all) is zero or not finite")
    unit = vectors / norms
    cosines: NDArray[np.float64] = np.einsum("pd,pd->p", unit[pairs.sides[:, 0]], unit[pairs.sides[:, 1]])
    return cosines


def _plain(value: object) -> object:
    """Arrays as JSON lists; an infinite threshold stays `Infinity`, as Python's json writes it."""
    assert isinstance(value, np.ndarray), type(value)
    return value.tolist()
