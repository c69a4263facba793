from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.voices import hum

from qmargin.data.speech import AudioFormat, FrontEnd, Recording, fbank, recording_features

PRESETS = {"wespeaker": FrontEnd.wespeaker(), "speaker_3d": FrontEnd.speaker_3d()}


def slow_fbank(wave: NDArray[np.floating], front_end: FrontEnd) -> NDArray[np.float64]:
    """Kaldi's recipe word by word, in float64."""
    samples = np.asarray(wave, np.float64) * front_end.wave_scale
    place = np.arange(400)
    window = {
        "hamming": 0.54 - 0.46 * np.cos(2 * np.pi * place / 399),
        "povey": (0.5 - 0.5 * np.cos(2 * np.pi * place / 399)) ** 0.85,
    }[front_end.window]
    mels = 1127.0 * np.log1p(np.arange(257) * 16_000 / 512 / 700.0)
    low, high = 1127.0 * np.log1p(np.array([20.0, 8_000.0]) / 700.0)
    centres = np.linspace(low, high, front_end.bins + 2)
    rise = (mels - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    fall = (centres[2:, None] - mels) / (centres[2:] - centres[1:-1])[:, None]
    bank = np.clip(np.minimum(rise, fall), 0.0, None)  # (bins, 257)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400] - samples[start : start + 400].mean()
        frame = np.append(0.03 * frame[0], frame[1:] - 0.97 * frame[:-1]) * window
        rows.append(np.log(np.maximum(bank @ np.abs(np.fft.rfft(frame, 512)) ** 2, np.finfo(np.float32).eps)))
    features = np.array(rows)
    return features - features.mean(axis=0) if front_end.subtract_mean else features


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("subtract_mean", [True, False])
def test_features_are_kaldis_word_by_word(preset: str, subtract_mean: bool) -> None:
    front_end = replace(PRESETS[preset], subtract_mean=subtract_mean)
    features = fbank(hum(1.3), front_end)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, slow_fbank(hum(1.3), front_end), atol=1e-3)


def test_the_presets_are_two_front_ends() -> None:
    assert np.abs(fbank(hum(1.0), PRESETS["wespeaker"]) - fbank(hum(1.0), PRESETS["speaker_3d"])).max() > 0.1


def test_dither_comes_from_the_generator_and_has_the_same_size_in_both_scales() -> None:
    silence = np.zeros(16_000, np.float32)
    noise = np.random.default_rng(3).standard_normal(16_000, dtype=np.float32)
    for front_end in PRESETS.values():
        first, again = (fbank(silence, front_end, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_allclose(first, fbank(noise / np.float32(2**15), front_end), atol=1e-3)
    assert not np.array_equal(first, fbank(silence, front_end, np.random.default_rng(4)))
    np.testing.assert_array_equal(fbank(hum(1.0), front_end), fbank(hum(1.0), front_end))


def test_no_dither_where_none_is_asked_for() -> None:
    front_end = replace(FrontEnd.wespeaker(), dither=0.0)
    np.testing.assert_array_equal(
        fbank(hum(1.0), front_end, np.random.default_rng(0)), fbank(hum(1.0), FrontEnd.wespeaker())
    )


def test_the_mean_over_the_utterance_is_taken_off() -> None:
    np.testing.assert_allclose(fbank(hum(1.0), FrontEnd.wespeaker()).mean(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 200, 600])
def test_samples_and_frames_are_inverse(frames: int) -> None:
    front_end = FrontEnd.wespeaker()
    samples = front_end.samples(frames)
    assert fbank(hum(samples / 16_000), front_end).shape == (frames, 80)
    assert front_end.frames(samples) == frames
    assert front_end.frames(samples - 1) == frames - 1


def test_a_wave_shorter_than_a_window_is_refused_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "blink.wav", hum(0.02), 16_000)
    with pytest.raises(ValueError, match=r"cannot embed .*blink\.wav: it has 320 samples, less than a window of 400"):
        recording_features(Recording(tmp_path / "blink.wav"), FrontEnd.wespeaker())


@pytest.mark.parametrize("bins", [3, 126])
def test_the_fewest_and_the_most_bins_can_be_computed(bins: int) -> None:
    assert fbank(hum(0.1), FrontEnd(bins=bins)).shape == (8, bins)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"bins": 0}, r"FrontEnd.bins must be an integer >= 3, got 0"),
        (
            {"bins": 128},
            r"FrontEnd.bins: 128 mel bins are too many at 16,000 samples a second, some would have no line of the "
            r"spectrum: 126 is the next number that can be computed, 80 is usual",
        ),
        ({"bins": 10**9}, r"FrontEnd.bins: 1000000000 mel bins are too many .*: 126 is the next number"),
        ({"audio": AudioFormat(sample_rate=4_000)}, r"80 mel bins are too many at 4,000 samples a second"),
        ({"window": "hann"}, r"FrontEnd.window must be 'hamming' or 'povey', got 'hann'"),
        ({"wave_scale": 0.0}, r"FrontEnd.wave_scale must be a finite number > 0, got 0.0"),
        ({"dither": -1.0}, r"FrontEnd.dither must be a finite number >= 0, got -1.0"),
    ],
)
def test_the_front_end_refuses_what_cannot_be_computed(change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        FrontEnd(**change)
