"""The speech of a training run: what `DataConfig` is for images."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qmargin.data import ShuffledBatches
from qmargin.data._checks import check_counts
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech import FeatureCache, FrontEnd, SpeechAugmentation, SpeechBatches, SpeechSource, Utterances

FEWEST_FRAMES = 9  # a residual network keeps an eighth of them, rounded up, and a deviation needs two


@dataclass(frozen=True, kw_only=True)
class SpeechDataConfig:
    """Which recordings are read, how they become features, how they are changed, and which speakers are held out."""

    source: SpeechSource
    """Where the recordings and their speakers come from."""
    front_end: FrontEnd = field(default_factory=FrontEnd.wespeaker)
    """How recordings become features: in training, and ever after."""
    frames: int = 200
    """Frames of a training segment, 10 ms each, at least 9; shorter recordings are repeated."""
    augmentation: SpeechAugmentation = field(default_factory=SpeechAugmentation)
    """Random changes of training segments; evaluation sees none."""
    validation_identities: int = 0
    """Training speakers held out, whole, for choosing settings (evaluate --split validation)."""
    validation_seed: int = 0
    """Seed of the choice of validation speakers; the same for every run that is compared."""
    class_balance: float = 0.0
    """How evenly speakers are drawn: 0 each utterance once an epoch, 1 each speaker as often; see `BalancedBatches`."""
    workers: int = 2
    """Threads that read recordings and compute features."""
    feature_cache: Path | None = None
    """Folder that keeps features of whole utterances, computed when they are first met, for each speed; training then
    cuts segments from them, without dither, and noise cannot be added. None computes features of each segment."""

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        if not 0.0 <= self.class_balance <= 1.0:
            raise ValueError(f"data.class_balance must be in [0, 1], got {self.class_balance!r}")
        check_counts("data", 0, validation_identities=self.validation_identities)
        check_counts("data", 1, frames=self.frames, workers=self.workers)
        if self.frames < FEWEST_FRAMES:
            raise ValueError(
                f"data.frames must be at least {FEWEST_FRAMES}, got {self.frames}: networks take mean and deviation "
                "over the frames of a segment, and a residual one keeps an eighth of them; 200 are 2 s"
            )
        if self.feature_cache is not None and self.augmentation.noise is not None:
            raise ValueError(
                "data.feature_cache keeps features of clean recordings, and data.augmentation.noise is added to waves: "
                "leave the cache out, or take noise away (--data.augmentation.noise.kind None)"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(bins,) of the features; frames may be any number."""
        return (self.front_end.bins,)

    @property
    def expected(self) -> dict[str, int | None]:
        """Counts that the source must have: none is asked for."""
        return {}

    def class_counts(self, samples: SampleTable) -> NDArray[np.int64]:
        """Utterances of each class of training (classes,): of each speaker, once for each speed."""
        counts = np.bincount(samples.labels, minlength=samples.num_classes)
        found = np.tile(counts, len(self.augmentation.speeds))
        assert len(found) == self.augmentation.num_classes(samples.num_classes)
        return found

    def batches(self, samples: SampleTable, order: ShuffledBatches) -> SpeechBatches:
        """Training batches of the recordings, in that order."""
        assert isinstance(samples, Utterances), "they come from `source`"
        cache = None if self.feature_cache is None else FeatureCache(self.feature_cache, self.front_end)
        return SpeechBatches(samples, self.front_end, self.frames, self.augmentation, order, self.workers, cache)

    def prepared(self, inputs: Tensor) -> Tensor:
        """What the backbone takes, of a batch's `inputs` on its device: features (batch, frames, bins) as they are."""
        return inputs
