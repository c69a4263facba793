"""What training asks of a table of samples, whatever they are samples of."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class SampleTable(Protocol):
    """Samples in a fixed order, each with a name, an identity and a split.

    `Samples` is the one of images, which have pixels; `qmargin.data.speech.Utterances` the one of recordings.
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

    def subset(self, split: str) -> "SampleTable":
        """The samples of one split, in order, labels counted anew; a ValueError where there are none."""

    def hold_out(self, identities: int, seed: int) -> "SampleTable":
        """Move that many train identities, chosen by `seed`, to the split "validation"."""

    def path(self, index: int) -> str:
        """What names a sample."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, identity and split of each sample, in order."""
