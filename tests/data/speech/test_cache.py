"""Kept features against features of the samples that they are made of."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.voices import hum

from qmargin.data import ShuffledBatches
from qmargin.data.speech import (
    AudioFormat,
    FeatureCache,
    FrontEnd,
    Recording,
    SpecAugment,
    SpeechAugmentation,
    SpeechBatches,
    SyntheticNoise,
    fbank,
    read_speaker_folders,
    recording_features,
)
from qmargin.data.speech.cache import cut
from qmargin.data.speech.wav import resampled

FRONT_END = FrontEnd.wespeaker()


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    soundfile.write(tmp_path / "a.wav", hum(1.3), 16_000, subtype="FLOAT")
    return Recording(tmp_path / "a.wav")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "kept", FRONT_END)


def files(cache: FeatureCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.npy"))


def test_kept_features_are_those_of_extraction_with_their_mean(cache: FeatureCache, recording: Recording) -> None:
    for _ in range(2):
        kept = cache.features(recording)
        np.testing.assert_allclose(
            kept - kept.mean(axis=0), recording_features(recording, FRONT_END), rtol=0, atol=1e-5
        )
    assert len(files(cache)) == 1
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 0.0


@pytest.mark.parametrize("speed", [1.0, 0.9, 1.1])
def test_frames_that_are_cut_are_those_of_their_samples(
    cache: FeatureCache, recording: Recording, speed: float
) -> None:
    wave = resampled(hum(1.3), 1 / Fraction(str(speed)))
    kept = cache.features(recording, speed)
    assert len(kept) == FRONT_END.frames(len(wave))
    for seed in range(4):
        start = int(np.random.default_rng(seed).integers(len(kept) - 40 + 1))
        samples = wave[160 * start : 160 * start + FRONT_END.samples(40)]
        segment = cut(kept, 40, np.random.default_rng(seed), subtract_mean=True)
        np.testing.assert_allclose(segment, fbank(samples, FRONT_END), rtol=0, atol=1e-5)


def test_batches_cut_what_is_kept(tmp_path: Path, voices: Path) -> None:
    utterances = read_speaker_folders(voices, "train")
    order = ShuffledBatches(len(utterances), 3, 0)
    change = SpeechAugmentation(speeds=(1.0, 1.1), masks=SpecAugment(frames=0, bins=0))
    cache = FeatureCache(tmp_path / "kept", FRONT_END)
    batches = SpeechBatches(utterances, FRONT_END, 60, change, order, cache=cache)
    for batch in batches.iterate(0, 4):
        for features, label, index in zip(batch.features, batch.labels, batch.indices, strict=True):
            speed = 1.1 if int(label) >= utterances.num_classes else 1.0
            kept = cache.features(utterances.recording(int(index)), speed)
            starts = [kept[start : start + 60] for start in range(len(kept) - 59)]
            assert any(np.allclose(features, one - one.mean(axis=0), rtol=0, atol=1e-5) for one in starts)
    again = SpeechBatches(utterances, FRONT_END, 60, change, order, workers=1, cache=cache)
    pairs = zip(batches.iterate(2, 4), again.iterate(2, 4), strict=True)
    assert all(np.array_equal(first.features, second.features) for first, second in pairs)
    with pytest.raises(ValueError, match="noise is added to waves: take noise off, or the cache"):
        SpeechBatches(utterances, FRONT_END, 60, replace(change, noise=SyntheticNoise()), order, cache=cache)


def test_what_changes_is_computed_anew(cache: FeatureCache, recording: Recording) -> None:
    first = np.array(cache.features(recording))
    soundfile.write(recording.file, hum(1.3, pitch=200.0), 16_000, subtype="FLOAT")
    os.utime(recording.file, ns=(1, 1))  # of the same size, and a clock that went back
    assert np.abs(cache.features(recording) - first).max() > 0.1
    assert cache.features(recording._replace(span=(0.2, 0.9))).shape == (68, 80)
    povey = FeatureCache(cache.folder, FrontEnd.speaker_3d())
    assert np.abs(povey.features(recording)[0] - cache.features(recording)[0]).max() > 1.0
    dithered = FeatureCache(cache.folder, replace(FRONT_END, dither=3.0, subtract_mean=False))  # neither is kept
    np.testing.assert_array_equal(dithered.features(recording), cache.features(recording))
    assert len(files(cache)) == 4


def test_recordings_that_are_too_short_are_repeated(cache: FeatureCache, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", hum(0.01), 16_000, subtype="FLOAT")
    kept = cache.features(Recording(tmp_path / "short.wav"))
    np.testing.assert_array_equal(kept, fbank(np.resize(hum(0.01), 400), replace(FRONT_END, subtract_mean=False)))
    assert cut(kept, 7, np.random.default_rng(0), subtract_mean=False).shape == (7, 80)


def test_threads_that_want_one_file_share_it(cache: FeatureCache, recording: Recording) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: np.array(cache.features(recording)), range(16)))
    assert all(np.array_equal(found[0], one) for one in found)
    assert [file.suffix for file in cache.folder.rglob("*") if file.is_file()] == [".npy"]


def test_faults_name_the_file(cache: FeatureCache, recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*gone.wav: No such file"):
        cache.features(Recording(tmp_path / "gone.wav"))
    soundfile.write(tmp_path / "two.wav", np.zeros((4000, 2)), 16_000)
    with pytest.raises(ValueError, match=r"cannot read .*two.wav: it has 2 channels"):
        cache.features(Recording(tmp_path / "two.wav"))
    either = FeatureCache(cache.folder, replace(FRONT_END, audio=AudioFormat(channels="first")))
    assert either.features(Recording(tmp_path / "two.wav")).shape == (23, 80)
    cache.features(recording)
    for file in files(cache):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"holds no features .*: remove it, and they are computed anew"):
        cache.features(recording)
