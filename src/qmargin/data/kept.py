"""Decoded images that stay in memory, for sets that are small enough: each is decoded once a run, not once an epoch."""

import numpy as np
from numpy.typing import NDArray

from qmargin.data.decode import ImageFormat
from qmargin.data.samples import Samples


class KeptPixels:
    """The pixels of samples in one format, decoded when they are first asked for.

    Takes (samples x height x width x channels) bytes, of which the system hands out what is touched. Threads may share
    it: two that ask for the same image at once both decode it, to the same bytes.

    Example:
        >>> from qmargin.data import ImageFormat, read_orl
        >>> kept = KeptPixels(read_orl(), ImageFormat(height=28, width=23, channels=1, fit="resize"))
        >>> kept(7).shape, kept.decoded
        ((28, 23, 1), 1)
    """

    def __init__(self, samples: Samples, image: ImageFormat) -> None:
        channels, height, width = image.shape
        self._samples, self._image = samples, image
        self._pixels = np.empty((len(samples), height, width, channels), dtype=np.uint8)
        self._there = np.zeros(len(samples), dtype=np.bool_)

    @property
    def decoded(self) -> int:
        """How many are in memory."""
        return int(self._there.sum())

    def __call__(self, index: int) -> NDArray[np.uint8]:
        """The image of a sample, (height, width, channels), read only; errors are those of its decoder."""
        if not self._there[index]:
            self._pixels[index] = self._samples.pixels(index, self._image)
            self._there[index] = True  # after the pixels: another thread may look
        kept: NDArray[np.uint8] = self._pixels[index]
        kept.flags.writeable = False
        return kept
