import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.voices import hum

from qmargin.data.speech import (
    AudioFormat,
    RecordedNoise,
    SpecAugment,
    SpeechAugmentation,
    SyntheticNoise,
    spec_augment,
)
from qmargin.data.speech.corrupt import coloured_noise, mixed, reverberated, room_response

AUDIO = AudioFormat()


def power(wave: NDArray[np.floating]) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64)))


def other(generator: np.random.Generator) -> NDArray[np.float32]:
    return hum(0.5, float(generator.uniform(80, 300)))


@pytest.mark.parametrize("snr", [-5.0, 0.0, 15.0])
def test_noise_lies_as_far_below_the_voice_as_it_is_asked_to(snr: float) -> None:
    wave, noise = hum(1.0), 7.0 * hum(1.0, 333.0)
    added = mixed(wave, noise, snr).astype(np.float64) - wave
    assert 10 * np.log10(power(wave) / power(added)) == pytest.approx(snr, abs=1e-3)


def test_silence_stays_silence() -> None:
    silence, wave = np.zeros(16_000, np.float32), hum(1.0)
    np.testing.assert_array_equal(mixed(silence, wave, 10.0), silence)
    np.testing.assert_array_equal(mixed(wave, silence, 10.0), wave)


def test_a_response_is_convolved_from_its_peak_on() -> None:
    wave, response = hum(0.1), np.array([0.1, -3.0, 0.0, 4.0 / 3.0])
    expected = np.convolve(wave, [-3.0, 0.0, 4.0 / 3.0])[: len(wave)] / np.hypot(3.0, 4.0 / 3.0)
    np.testing.assert_allclose(reverberated(wave, response), expected, atol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_the_colour_of_noise_is_the_slope_of_its_spectrum(slope: float) -> None:
    noise = coloured_noise(160_000, slope, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    bands = [spectrum[2**n : 2 ** (n + 1)].mean() for n in range(6, 16)]
    fitted, _ = np.polyfit(np.arange(10), np.log2(bands), 1)
    assert fitted == pytest.approx(-slope, abs=0.05)


def test_rooms_echo_as_long_as_they_are_meant_to_and_are_made_once() -> None:
    first = room_response(0, 0, 16_000)
    room_response.cache_clear()
    np.testing.assert_array_equal(first, room_response(0, 0, 16_000))
    assert not np.array_equal(first[:2000], room_response(0, 1, 16_000)[:2000])
    energy = np.cumsum(np.square(first[::-1], dtype=np.float64))[::-1]
    decay = 10 * np.log10(energy / energy[0] + 1e-12)
    assert 0.05 < np.argmax(decay < -20) / 16_000 < 0.6


def test_synthetic_noise_is_drawn_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: set[str] = set()
    for name in ("coloured_noise", "reverberated"):
        real = getattr(sys.modules["qmargin.data.speech.corrupt"], name)

        def noted(*arguments: object, _name: str = name, _real: object = real) -> object:
            kinds.add(_name)
            assert callable(_real)
            return _real(*arguments)

        monkeypatch.setattr(f"qmargin.data.speech.corrupt.{name}", noted)

    def heard(generator: np.random.Generator) -> NDArray[np.float32]:
        kinds.add("babble")
        return other(generator)

    wave = hum(0.5)
    for seed in range(20):
        changed = SyntheticNoise(rooms=2).corrupt(wave, np.random.default_rng(seed), AUDIO, heard)
        assert changed.shape == wave.shape
        assert changed.dtype == np.float32
        assert not np.array_equal(changed, wave)
    assert kinds == {"coloured_noise", "reverberated", "babble"}


def test_without_the_extra_rooms_are_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    room_response.cache_clear()
    with pytest.raises(ValueError, match=r"simulated rooms need pyroomacoustics: pip install 'qmargin\[rooms\]', or"):
        room_response(0, 0, 16_000)


def test_recorded_noise_is_read_from_musan_and_responses(tmp_path: Path) -> None:
    for kind, pitch in (("noise", 900.0), ("speech", 1_300.0), ("music", 1_700.0)):
        (tmp_path / "musan" / kind / "part").mkdir(parents=True)
        soundfile.write(tmp_path / "musan" / kind / "part" / "a.wav", hum(2.0, pitch), 16_000)
    (tmp_path / "rirs").mkdir()
    soundfile.write(tmp_path / "rirs" / "r.wav", np.array([0.0, 0.5, 0.0, 0.25]), 16_000)
    noise = RecordedNoise(musan=tmp_path / "musan", impulse_responses=tmp_path / "rirs")
    wave = hum(1.0)
    echo = reverberated(wave, np.array([0.5, 0.0, 0.25]))
    ratios = []
    for seed in range(40):
        changed = noise.corrupt(wave, np.random.default_rng(seed), AUDIO, other)
        np.testing.assert_array_equal(changed, noise.corrupt(wave, np.random.default_rng(seed), AUDIO, other))
        if not np.allclose(changed, echo, atol=1e-4):
            ratios.append(10 * np.log10(power(wave) / power(changed - wave)))
    assert 10 < len(ratios) < 30
    assert -0.1 < min(ratios) < 10 < max(ratios) < 30.1
    gone = RecordedNoise(musan=tmp_path / "gone", impulse_responses=tmp_path / "gone")
    with pytest.raises(ValueError, match=r"RecordedNoise: no folder .*gone.*noise.musan DIR.*kind SyntheticNoise"):
        gone.corrupt(wave, np.random.default_rng(0), AUDIO, other)


def test_noise_that_cannot_be_made_is_refused_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("noise", "speech", "music"):
        (tmp_path / "musan" / kind).mkdir(parents=True)
        soundfile.write(tmp_path / "musan" / kind / "a.wav", hum(0.1), 16_000)
    gone = RecordedNoise(musan=tmp_path / "musan", impulse_responses=tmp_path / "rirs")
    with pytest.raises(ValueError, match=r"RecordedNoise: no folder .*rirs"):
        SpeechAugmentation(noise=gone).check()
    SpeechAugmentation(noise=gone, noise_probability=0.0).check()  # it is never asked for
    SpeechAugmentation().check()
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    SpeechAugmentation(noise=SyntheticNoise(rooms=0)).check()
    with pytest.raises(ValueError, match=r"or set rooms to 0 in SyntheticNoise \(--data.augmentation.noise.rooms 0\)"):
        SpeechAugmentation(noise=SyntheticNoise()).check()


def test_masks_hide_at_most_what_they_are_asked_to_and_leave_the_input() -> None:
    features = np.ones((50, 80), np.float32)
    widths = set()
    for seed in range(200):
        masked = spec_augment(features, np.random.default_rng(seed), SpecAugment(time_masks=0, bins=5)) == 0
        assert masked.all(axis=0).sum() == masked.any(axis=0).sum()
        widths.add(int(masked.any(axis=0).sum()))
        masked = spec_augment(features, np.random.default_rng(seed), SpecAugment(frequency_masks=0, frames=90)) == 0
        assert masked.all(axis=1).sum() == masked.any(axis=1).sum()
    assert widths == set(range(6))
    assert features.all()
    with pytest.raises(ValueError, match=r"SpecAugment.bins must be an integer >= 0, got -1"):
        SpecAugment(bins=-1)
    with pytest.raises(ValueError, match=r"SyntheticNoise.rooms must be an integer >= 0, got -1"):
        SyntheticNoise(rooms=-1)
