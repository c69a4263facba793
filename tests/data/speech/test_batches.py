import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.voices import hum

from qmargin.data import ShuffledBatches
from qmargin.data.speech import (
    FeatureCache,
    FrontEnd,
    RecordedNoise,
    Recording,
    SpecAugment,
    SpeechAugmentation,
    SpeechBatch,
    SpeechBatches,
    SyntheticNoise,
    read_speaker_folders,
    recording_features,
)

FRONT_END = FrontEnd.wespeaker()
PLAIN = SpeechAugmentation()
ADVICE = (
    r"In a training: replace it under the same name \(the run can be resumed then\), or leave it out and train anew$"
)
STRONG = SpeechAugmentation(
    speeds=(0.9, 1.0, 1.1), noise=SyntheticNoise(rooms=3), noise_probability=0.9, masks=SpecAugment()
)


def loader(
    voices: Path, augmentation: SpeechAugmentation = STRONG, workers: int = 2, seed: int = 0, frames: int = 60
) -> SpeechBatches:
    utterances = read_speaker_folders(voices, "train")
    order = ShuffledBatches(len(utterances), 3, seed)
    return SpeechBatches(utterances, FRONT_END, frames, augmentation, order, workers)


def same(first: SpeechBatch, second: SpeechBatch) -> bool:
    return (
        first.step == second.step
        and torch.equal(first.features, second.features)
        and torch.equal(first.labels, second.labels)
        and np.array_equal(first.indices, second.indices)
    )


def test_batches_hold_features_of_the_utterances_the_order_asks_for(voices: Path) -> None:
    batches = loader(voices, PLAIN)
    for batch in batches.iterate(0, 4):
        np.testing.assert_array_equal(batch.indices, batches.batches[batch.step])
        assert batch.features.shape == (3, 60, 80)
        assert batch.features.dtype == torch.float32
        assert batch.labels.tolist() == batches.utterances.labels[batch.indices].tolist()


def test_a_segment_as_long_as_its_recording_has_its_features(voices: Path) -> None:
    quiet = replace(FRONT_END, dither=0.0)
    for file in voices.rglob("*.wav"):
        soundfile.write(file, hum(0.995, seed=int(file.stem)), 16_000)  # 98 frames, to the sample
    utterances = read_speaker_folders(voices, "train")
    (batch,) = SpeechBatches(utterances, quiet, 98, PLAIN, ShuffledBatches(6, 6, 0)).iterate(0, 1)
    for features, index in zip(batch.features, batch.indices, strict=True):
        np.testing.assert_array_equal(features.numpy(), recording_features(utterances.recording(index), quiet))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_resumed_run_hears_the_same_whatever_the_number_of_workers(voices: Path, workers: int) -> None:
    whole = list(loader(voices).iterate(0, 8))
    resumed = list(loader(voices, workers=workers).iterate(5, 8))
    assert all(same(*pair) for pair in zip(whole[5:], resumed, strict=True))


def test_samples_differ_by_step_place_and_seed(voices: Path) -> None:
    first, second = loader(voices, PLAIN).iterate(0, 3), loader(voices, PLAIN, seed=1).iterate(0, 3)
    features = [sample for stream in (first, second) for batch in stream for sample in batch.features]
    for a, left in enumerate(features):
        assert not any(torch.equal(left, right) for right in features[a + 1 :])


def test_speeds_make_new_speakers(voices: Path) -> None:
    change = replace(PLAIN, speeds=(0.9, 1.0, 1.1))
    batches = loader(voices, change)
    speakers = batches.utterances.labels
    seen: set[int] = set()
    for batch in batches.iterate(0, 40):
        assert ((batch.labels.numpy() % 3) == speakers[batch.indices]).all()
        seen |= set(batch.labels.tolist())
    assert seen == set(range(9))
    assert change.num_classes(3) == 9


def test_speed_one_keeps_the_speakers_labels() -> None:
    change = SpeechAugmentation(speeds=(0.9, 1.0, 1.1))
    drawn = {change.draw_speed(np.random.default_rng(seed)) for seed in range(50)}
    assert drawn == {(0, 1.0), (1, 0.9), (2, 1.1)}


def test_noise_is_put_on_the_share_of_samples_that_is_asked_for(voices: Path) -> None:
    """Switching noise on leaves the other samples as they were, to the bit."""
    noisy = SpeechAugmentation(noise=SyntheticNoise(rooms=0), noise_probability=0.6)
    kept = [
        torch.equal(one, other)
        for clean, changed in zip(
            loader(voices, PLAIN).iterate(0, 100), loader(voices, noisy).iterate(0, 100), strict=True
        )
        for one, other in zip(clean.features, changed.features, strict=True)
    ]
    assert 1 - np.mean(kept) == pytest.approx(0.6, abs=0.09)  # three deviations of 300 draws


def test_leaving_the_batches_ends_their_threads(voices: Path) -> None:
    with closing(loader(voices).iterate(0, 100)) as stream:
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qmargin-decode")]


def test_a_recording_that_is_gone_is_named_when_its_batch_is_due(voices: Path) -> None:
    batches = loader(voices, PLAIN)
    (voices / "id1" / "video" / "0.wav").unlink()
    law = r"cannot read .*id1/video/0\.wav: there is no such file\. "
    with pytest.raises(ValueError, match=law + ADVICE):
        list(batches.iterate(0, 2))


@pytest.mark.parametrize("cached", [False, True])
def test_a_recording_that_is_bad_says_how_the_training_can_go_on(voices: Path, tmp_path: Path, cached: bool) -> None:
    batches = loader(voices, PLAIN)
    batches.cache = FeatureCache(tmp_path / "kept", FRONT_END) if cached else None
    bad = voices / "id1" / "video" / "0.wav"
    bad.write_bytes(b"no sound")
    law = r"Format not recognised; read are WAV, FLAC and Ogg: convert it, or leave it out\. "
    with pytest.raises(ValueError, match=law + ADVICE):
        list(batches.iterate(0, 2))
    with pytest.raises(ValueError, match=law.removesuffix(r"\. ") + "$"):  # elsewhere nothing is resumed
        recording_features(Recording(bad), FRONT_END)
    soundfile.write(bad, hum(1.0), 16_000)
    list(batches.iterate(0, 2))
    if cached:
        for file in (tmp_path / "kept").rglob("*.npy"):
            file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"remove it, and they are computed anew$"):  # of a file that is not theirs
            list(batches.iterate(0, 2))


def test_an_order_of_other_samples_is_refused(voices: Path) -> None:
    with pytest.raises(ValueError, match=r"the order is for 7 samples, there are 6 utterances: make it with"):
        SpeechBatches(read_speaker_folders(voices, "train"), FRONT_END, 60, PLAIN, ShuffledBatches(7, 3, 0))


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"speeds": ()}, r"SpeechAugmentation.speeds must be distinct, 1.0 among them, got \(\)"),
        ({"speeds": (1.0, 1.0)}, r"speeds must be distinct"),
        ({"speeds": (0.9, 1.1)}, r"1.0 among them, got \(0.9, 1.1\)"),
        ({"speeds": (1.0, 3.0)}, r"SpeechAugmentation.speeds must be in \[0.5, 2\], got \(1.0, 3.0\)"),
        ({"noise_probability": 1.1}, r"SpeechAugmentation.noise_probability must be in \[0, 1\], got 1.1"),
    ],
)
def test_augmentation_refuses_values_outside_their_range(change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        SpeechAugmentation(**change)


def test_musan_and_impulse_responses_are_mixed_in_where_they_lie(voices: Path, tmp_path: Path) -> None:
    noise = RecordedNoise(musan=tmp_path / "musan", impulse_responses=tmp_path / "rirs")
    change = SpeechAugmentation(noise=noise, noise_probability=1.0)
    with pytest.raises(ValueError, match=r"no folder .*(musan/(noise|speech|music)|rirs): give the one that holds"):
        list(loader(voices, change).iterate(0, 1))
    for number, kind in enumerate(("noise", "speech", "music")):
        folder = tmp_path / "musan" / kind / "free-sound"
        folder.mkdir(parents=True)
        soundfile.write(folder / "a.wav", hum(2.0, pitch=300.0 + 100.0 * number), 16_000)
    rooms = tmp_path / "rirs" / "smallroom" / "Room001"
    rooms.mkdir(parents=True)
    response = np.zeros(4000, np.float32)
    response[[100, 900, 2400]] = 0.5, 0.3, 0.1
    soundfile.write(rooms / "a.wav", response, 16_000)
    noisy, again = list(loader(voices, change).iterate(0, 4)), list(loader(voices, change, workers=1).iterate(0, 4))
    clean = list(loader(voices, SpeechAugmentation(noise_probability=1.0)).iterate(0, 4))
    assert all(same(*pair) for pair in zip(noisy, again, strict=True))
    for with_noise, without in zip(noisy, clean, strict=True):  # the same segments, all of them changed
        difference = (with_noise.features - without.features).abs().mean(dim=(1, 2))
        assert (difference > 0.05).all()
        assert torch.equal(with_noise.labels, without.labels)
