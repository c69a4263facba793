"""Identities that are random numbers: a table of millions of samples in a few bytes each, and pixels without files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from qmargin.data.decode import ImageFormat
from qmargin.data.identities import SPLITS, choose_held_out, no_sample_in

FREQUENCIES = 6  # of the cosines along each side; an identity is a (6, 6) matrix of their amplitudes
SHIFT = 0.04  # of an image, in shares of its side: standard deviation
LIGHT = 0.2  # of brightness and of the logarithm of the contrast: standard deviation
NOISE = 4.0  # of a pixel, grey levels: standard deviation


@dataclass(frozen=True)
class SyntheticSamples:
    """Samples that are computed when they are asked for; a row takes 8 bytes.

        image = 127.5 (1 + tanh(light + contrast * cos_rows' A cos_columns)) + noise,  A = code + variation * change

    with cosines of 0 to 5 half waves along each side, shifted a little. The code depends on (seed, identity); change,
    shift, light and noise on (seed, identity, number of the image).

    Args:
        identity: of each sample (samples,) int32.
        number: of each sample among those of its identity (samples,) int32.
        split: of each identity, its place in `SPLITS`, (identities,) uint8.
        variation: spread of the amplitudes between images of an identity, as a share of that between identities.
        seed: of everything random.

    Sibling: `Manifest`, samples that are files.
    """

    identity: NDArray[np.int32]
    number: NDArray[np.int32]
    split: NDArray[np.uint8]
    variation: float
    seed: int

    @classmethod
    def with_counts(
        cls, counts: Mapping[str, NDArray[np.int64] | Sequence[int]], variation: float, seed: int
    ) -> "SyntheticSamples":
        """New identities, numbered through, from the number of images of each: {split: (identities,)}."""
        count = np.concatenate([np.asarray(part, dtype=np.int64) for part in counts.values()])
        split = np.repeat([SPLITS.index(name) for name in counts], [len(part) for part in counts.values()])
        identity = np.repeat(np.arange(len(count), dtype=np.int32), count)
        first = np.repeat(np.cumsum(count) - count, count)
        number = (np.arange(len(identity)) - first).astype(np.int32)
        return cls(identity, number, split.astype(np.uint8), variation, seed)

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return int(self.labels.max()) + 1

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class of each sample (samples,), in [0, num_classes), in the order of the identities' numbers."""
        return np.unique(self.identity, return_inverse=True)[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that the rows and pixels depend on."""
        hasher = sha256(repr((self.variation, self.seed)).encode())
        for column in (self.identity, self.number, self.split):
            hasher.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
        return hasher.hexdigest()

    def subset(self, split: str) -> "SyntheticSamples":
        """The samples of one split, in order; labels are counted anew among them.

        Raises:
            ValueError: an unknown split, or one without samples.
        """
        own = self.split[self.identity]  # (samples,)
        counts = {name: int(np.count_nonzero(own == place)) for place, name in enumerate(SPLITS)}
        if not counts.get(split):
            raise ValueError(no_sample_in(split, counts))
        return self.take(np.flatnonzero(own == SPLITS.index(split)))

    def take(self, rows: NDArray[np.int64]) -> "SyntheticSamples":
        """Some samples, in the order given; labels are counted anew among them."""
        return replace(self, identity=self.identity[rows], number=self.number[rows])

    def hold_out(self, identities: int, seed: int) -> "SyntheticSamples":
        """Move some train identities, with all their samples, to the split "validation"; as `Manifest.hold_out`."""
        (candidates,) = np.nonzero(self.split == SPLITS.index("train"))
        held = bool(np.any(self.split == SPLITS.index("validation")))
        samples = np.bincount(self.identity, minlength=len(self.split))[candidates]
        chosen = choose_held_out(samples, identities, seed, held=held)
        split = self.split.copy()
        split[candidates[chosen]] = SPLITS.index("validation")
        return replace(self, split=split)

    def path(self, index: int) -> str:
        """What names a sample: `identity/number`, as an image file would be."""
        return f"{self.identity[index]}/{self.number[index]}"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Path, identity and split of each sample, in order."""
        for name, number, split in zip(self.identity, self.number, self.split[self.identity], strict=True):
            yield f"{name}/{number}", str(name), SPLITS[split]

    def pixels(self, index: int, image: ImageFormat) -> NDArray[np.uint8]:
        """The image of a sample (height, width, channels); in colour its channels are equal."""
        identity, number = int(self.identity[index]), int(self.number[index])
        draw = np.random.default_rng([self.seed, identity, 1 + number])  # 0 would be the code's own stream
        code = np.random.default_rng([self.seed, identity]).standard_normal((FREQUENCIES, FREQUENCIES))
        amplitudes = _DECAY * (code + self.variation * draw.standard_normal(code.shape))
        right, down = SHIFT * draw.standard_normal(2)
        light, contrast = LIGHT * draw.standard_normal(2)
        pattern = _waves(image.height, down).T @ amplitudes @ _waves(image.width, right)  # (height, width)
        grey = 127.5 * (1.0 + np.tanh(light + np.exp(contrast) * pattern))
        grey += NOISE * draw.standard_normal(grey.shape)
        rounded = np.rint(grey).clip(0, 255).astype(np.uint8)
        return np.repeat(rounded[:, :, np.newaxis], image.channels, axis=2)


def long_tail(identities: int, samples: int) -> NDArray[np.int64]:
    """Images of each identity (identities,): one, and the others in proportion to 1, 1/2, 1/3, ..., `samples` in all.

    Example:
        >>> long_tail(4, 16).tolist()
        [7, 4, 3, 2]
    """
    shares = 1.0 / np.arange(1, identities + 1)
    ends = np.rint(np.cumsum(shares / shares.sum()) * (samples - identities)).astype(np.int64)
    ends[-1] = samples - identities
    return 1 + np.diff(ends, prepend=0)


def _decay() -> NDArray[np.float64]:
    """Standard deviation of each amplitude (frequencies, frequencies): smooth patterns, without a mean."""
    row, column = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    decay: NDArray[np.float64] = 0.6 / (row + column).clip(1)
    decay[0, 0] = 0.0
    return decay


_DECAY = _decay()


def _waves(size: int, shift: float) -> NDArray[np.float64]:
    """Cosines of 0, 1, ... half waves along `size` pixels, moved by a share of them; (frequencies, size)."""
    place = (np.arange(size) + 0.5) / size - shift
    waves: NDArray[np.float64] = np.cos(np.pi * np.arange(FREQUENCIES)[:, np.newaxis] * place)
    return waves
