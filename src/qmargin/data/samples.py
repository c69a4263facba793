"""What every later stage asks of a table of samples, wherever their pixels come from."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.decode import ImageFormat


class Samples(Protocol):
    """Samples in a fixed order, each with a path, an identity and a split.

    `Manifest` is the one of image files, `PackedSamples` that of images within other files; `SyntheticSamples` computes
    its rows and pixels when they are asked for.
    """

    def __len__(self) -> int:
        """Number of samples."""

    @property
    def num_classes(self) -> int:
        """Number of identities."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each sample (samples,), in [0, num_classes)."""

    @property
    def digest(self) -> str:
        """Changes where a sample, an identity or a split does; the same wherever the data lies."""

    def take(self, rows: Indices) -> "Samples":
        """Some samples, in the order given, labels counted anew; small and picklable when they are few."""

    def subset(self, split: str) -> "Samples":
        """The samples of one split, in order, labels counted anew; a ValueError where there are none."""

    def hold_out(self, identities: int, seed: int) -> "Samples":
        """Move that many train identities, chosen by `seed`, to the split "validation"."""

    def path(self, index: int) -> str:
        """What names a sample."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Path, identity and split of each sample, in order."""

    def pixels(self, index: int, image: ImageFormat) -> NDArray[np.uint8]:
        """The image of a sample in that format, (height, width, channels); a ValueError where it cannot be had."""
