"""From utterances to batches of features: random segments, changed and turned into filter banks by threads."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qmargin.data._checks import check_counts
from qmargin.data.batches import in_order
from qmargin.data.sampling import Indices, ShuffledBatches
from qmargin.data.speech.augment import SpeechAugmentation
from qmargin.data.speech.cache import FeatureCache, cut
from qmargin.data.speech.fbank import Features, FrontEnd
from qmargin.data.speech.spec_augment import spec_augment
from qmargin.data.speech.utterances import Utterances
from qmargin.data.speech.wav import RecordingError, Wave, read_segment


@dataclass(frozen=True)
class SpeechBatch:
    """Segments of one step."""

    step: int
    features: Tensor  # (batch, frames, bins) float32
    labels: Tensor  # (batch,) int64, in [0, speakers * speeds)
    indices: Indices  # (batch,) place of each utterance in the table

    @property
    def inputs(self) -> Tensor:
        """The features: what training moves to its device."""
        return self.features


class SpeechBatches:
    """Training batches: shuffled, cut, changed, as features.

        speed -> random segment -> noise or reverberation, peak to 1 -> dither, filter banks -> mean -> masks
        speed -> kept features of the whole utterance -> random frames -> mean -> masks        (with a `cache`)

    (seed, step, place in the batch) seed all that is random in a sample, so a batch is the same whatever the number of
    threads and wherever the run was resumed. `workers` batches are made ahead of the one in use.

    Args:
        utterances: the samples.
        front_end: how features are computed.
        frames: of a segment, >= 1.
        augmentation: how segments are changed.
        batches: their order; made for `len(utterances)` samples.
        workers: threads, >= 1; one batch is made by one thread.
        cache: keeps features of whole utterances; without dither, and noise cannot be added.

    Raises:
        ValueError: the order is for another number of samples.

    Sibling: `qmargin.data.ImageBatches`.
    """

    def __init__(
        self,
        utterances: Utterances,
        front_end: FrontEnd,
        frames: int,
        augmentation: SpeechAugmentation,
        batches: ShuffledBatches,
        workers: int = 2,
        cache: FeatureCache | None = None,
    ) -> None:
        check_counts("SpeechBatches", 1, frames=frames, workers=workers)
        if cache is not None and augmentation.noise is not None:
            raise ValueError(
                "kept features are of clean recordings, and noise is added to waves: take noise off, or the cache"
            )
        if batches.samples != len(utterances):
            raise ValueError(
                f"the order is for {batches.samples} samples, there are {len(utterances)} utterances: make it with "
                "ShuffledBatches(len(utterances), ...)"
            )
        self.utterances = utterances
        self.front_end = front_end
        self.frames = frames
        self.samples = front_end.samples(frames)  # of a segment
        self.augmentation = augmentation
        self.batches = batches
        self.workers = workers
        self.cache = cache
        self._labels = utterances.labels

    def iterate(self, start_step: int, stop_step: int) -> Generator[SpeechBatch, None, None]:
        """Yield the batches of the steps in [start_step, stop_step), in order.

        Closing the generator, or leaving it by an error, ends its threads. A recording that cannot be read raises the
        error of `opened` when its batch is due, with how the training can go on.
        """
        check_counts("SpeechBatches", 0, start_step=start_step, stop_step=stop_step)
        return in_order(range(start_step, stop_step), self.batches.__getitem__, self._make, self.workers)

    def _make(self, step: int, indices: Indices) -> SpeechBatch:
        first = self.batches.rank * self.batches.batch_size
        labels, features = [], []
        for place, index in enumerate(indices.tolist()):
            seed = np.random.SeedSequence(self.batches.seed, spawn_key=(step, first + place))
            label, sample = self._sample(index, np.random.default_rng(seed))
            labels.append(label)
            features.append(sample)
        return SpeechBatch(step, torch.from_numpy(np.stack(features)), torch.tensor(labels), indices)

    def _sample(self, index: int, generator: np.random.Generator) -> tuple[int, Features]:
        """Label and features (frames, bins) of one segment."""
        change = self.augmentation
        block, speed = change.draw_speed(generator)
        label = int(self._labels[index])
        if self.cache is None:
            features = self._from_wave(index, label, speed, generator)
        else:
            with _saying_how_to_go_on():
                kept = self.cache.features(self.utterances.recording(index), speed)
            features = cut(kept, self.frames, generator, subtract_mean=self.front_end.subtract_mean)
        if change.masks is not None:
            features = spec_augment(features, generator, change.masks)
        return block * self.utterances.num_classes + label, features

    def _from_wave(self, index: int, label: int, speed: float, generator: np.random.Generator) -> Features:
        """Features of a segment that is read, and made noisy, now."""
        change = self.augmentation
        wave = self._segment(index, generator, speed)
        noisy = generator.random() < change.noise_probability  # drawn in any case: settings do not move other draws
        if change.noise is not None and noisy:
            wave = change.noise.corrupt(
                wave, generator, self.front_end.audio, lambda source: self._other_voice(label, source)
            )
            wave = wave / np.maximum(np.abs(wave).max(), np.float32(1e-6))  # as WeSpeaker does
        return self.front_end.features(wave, generator)

    def _segment(self, index: int, generator: np.random.Generator, speed: float) -> Wave:
        recording = self.utterances.recording(index)
        with _saying_how_to_go_on():
            return read_segment(recording, self.front_end.audio, self.samples, generator, speed)

    def _other_voice(self, label: int, generator: np.random.Generator) -> Wave:
        """A segment of anyone but this speaker."""
        others = self.utterances.num_classes > 1
        while True:
            index = int(generator.integers(len(self.utterances)))
            if not others or self._labels[index] != label:
                return self._segment(index, generator, 1.0)


@contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    """Add to the error of a recording what a training can do about it: its list of samples must stay the same."""
    try:
        yield
    except RecordingError as error:
        raise RecordingError(
            f"{error}. In a training: replace it under the same name (the run can be resumed then), or leave it out "
            "and train anew"
        ) from error
