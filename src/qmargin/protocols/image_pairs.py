"""A list of image pairs with labels and folds: what `.bin`, `pairs.csv` and LFW's `pairs.txt` have in common."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.data import EncodedImage

PIECE = 1 << 24  # bytes of a file that are hashed at a time


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Pairs of images, each image once however many pairs it is in.

    Siblings: `read_bin`, `read_pairs_csv` and `read_lfw_pairs` make one from files.
    """

    name: str  # of the set: the file's name without its ending
    sha256: str  # of the file
    images: Sequence[Path | EncodedImage]  # (images,) distinct
    sides: NDArray[np.int64]  # (pairs, 2) place of each side in `images`
    same: NDArray[np.bool_]  # (pairs,) True = one person
    folds: NDArray[np.int64]  # (pairs,)

    def __post_init__(self) -> None:
        """Our own invariants: the readers have checked the files."""
        assert len(self.sides) == len(self.same) == len(self.folds), (self.sides.shape, self.same.shape)

    def __len__(self) -> int:
        return len(self.same)


def check_pairs(source: Path, same: NDArray[np.bool_]) -> None:
    """Refuse a list with too few pairs for ten folds, or of one kind only."""
    genuine = int(np.count_nonzero(same))
    if len(same) < 10 or genuine in (0, len(same)):
        raise ValueError(
            f"{source} lists {genuine:,} pairs of one person and {len(same) - genuine:,} of two: it needs both kinds, "
            "and 10 pairs or more, one for each fold"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; a ValueError names a file that cannot be read."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                hasher.update(piece)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return hasher.hexdigest()
