"""What is done to the segments of training: speed, noise and reverberation, masks; each by itself, from a generator."""

from dataclasses import dataclass

import numpy as np

from qmargin.data.speech.corrupt import Noise
from qmargin.data.speech.spec_augment import SpecAugment


@dataclass(frozen=True, kw_only=True)
class SpeechAugmentation:
    """Random changes of training segments; extraction sees none. The defaults change nothing.

    Raises:
        ValueError: no speed, a speed twice or outside [0.5, 2], 1 not among them; a probability outside [0, 1], or one
            that has nothing to do.
    """

    speeds: tuple[float, ...] = (1.0,)
    """Speeds, drawn alike. Each but 1 makes new speakers: classes = speakers x speeds; a voice that is faster is
    higher too, and so another voice."""
    noise: Noise | None = None
    """Noise and reverberation."""
    noise_probability: float = 0.6
    """Share of the segments that get noise or reverberation, in [0, 1]; of no effect without `noise`."""
    masks: SpecAugment | None = None
    """Bands and spans of the features that are hidden."""

    def __post_init__(self) -> None:
        """Refuse settings outside their ranges."""
        if 1.0 not in self.speeds or len(set(self.speeds)) < len(self.speeds):
            raise ValueError(f"SpeechAugmentation.speeds must be distinct, 1.0 among them, got {self.speeds}")
        if not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ValueError(f"SpeechAugmentation.speeds must be in [0.5, 2], got {self.speeds}")
        if not 0.0 <= self.noise_probability <= 1.0:
            raise ValueError(f"SpeechAugmentation.noise_probability must be in [0, 1], got {self.noise_probability!r}")

    def check(self) -> None:
        """Refuse noise that cannot be made here, as of a set that is not on the disk; for before a run begins."""
        if self.noise is not None and self.noise_probability > 0.0:
            self.noise.check()

    def num_classes(self, speakers: int) -> int:
        """Classes of so many speakers."""
        return speakers * len(self.speeds)

    @property
    def blocks(self) -> tuple[float, ...]:
        """Speeds in the order of their blocks of classes: speed 1 first, so speakers keep their labels in it."""
        return tuple(sorted(self.speeds, key=lambda speed: (speed != 1.0, speed)))

    def draw_speed(self, generator: np.random.Generator) -> tuple[int, float]:
        """Block of classes and speed of a segment."""
        blocks = self.blocks
        block = int(generator.integers(len(blocks)))
        return block, blocks[block]
