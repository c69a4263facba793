"""What every later stage asks of a table of samples, wherever their pixels come from."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.decode import ImageFormat
from qmargin.data.sample_table import SampleTable


class Samples(SampleTable, Protocol):
    """Images in a fixed order, each with a path, an identity and a split.

    `Manifest` is the one of image files, `PackedSamples` that of images within other files; `SyntheticSamples` computes
    its rows and pixels when they are asked for.
    """

    def take(self, rows: Indices) -> "Samples":
        """Some samples, in the order given, labels counted anew; small and picklable when they are few."""

    def subset(self, split: str) -> "Samples":
        """The samples of one split, in order, labels counted anew; a ValueError where there are none."""

    def hold_out(self, identities: int, seed: int) -> "Samples":
        """Move that many train identities, chosen by `seed`, to the split "validation"."""

    def pixels(self, index: int, image: ImageFormat) -> NDArray[np.uint8]:
        """The image of a sample in that format, (height, width, channels); a ValueError where it cannot be had."""
