"""SpecAugment: bands of bins and spans of frames set to the mean, drawn for each sample."""

from dataclasses import dataclass

import numpy as np

from qmargin.data._checks import check_counts
from qmargin.data.speech.fbank import Features


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """How much of the features is hidden in training; a mask's width is uniform in 0, 1, ..., its largest.

    Raises:
        ValueError: a count or width below 0.

    Reference: Park et al., "SpecAugment", Interspeech 2019 (without time warping).
    """

    frequency_masks: int = 1
    """Bands of bins that are hidden."""
    bins: int = 8
    """Largest width of a band, bins."""
    time_masks: int = 1
    """Spans of frames that are hidden."""
    frames: int = 10
    """Largest length of a span, frames."""

    def __post_init__(self) -> None:
        """Refuse negative counts."""
        check_counts("SpecAugment", 0, **vars(self))


def spec_augment(features: Features, generator: np.random.Generator, config: SpecAugment) -> Features:
    """Set random bands and spans to 0, which is the mean of features whose mean was taken off.

    Args:
        features: (frames, bins).
        generator: where randomness comes from.
        config: how much; a mask is at most as wide as what it masks.

    Returns:
        (frames, bins), a new array.

    Example:
        >>> config = SpecAugment(frequency_masks=1, bins=2, time_masks=0)
        >>> int((spec_augment(np.ones((5, 4), np.float32), np.random.default_rng(1), config) == 0).sum())
        5
    """
    result = features.copy()
    masks = ((result, config.time_masks, config.frames), (result.T, config.frequency_masks, config.bins))
    for view, count, largest in masks:
        for _ in range(count):
            width = int(generator.integers(min(largest, len(view)) + 1))
            start = int(generator.integers(len(view) - width + 1))
            view[start : start + width] = 0.0
    return result
