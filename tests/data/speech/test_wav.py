import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.voices import hum

from qmargin.data.speech import AudioFormat, Recording, read_segment, read_wave
from qmargin.data.speech.wav import opened

Write = Callable[..., Path]
AS_IS = AudioFormat()
CONTAINERS: list[tuple[str, dict[str, str]]] = [
    ("a.wav", {}),
    ("a.flac", {}),
    ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
    ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
]


@pytest.mark.parametrize(("name", "options"), CONTAINERS)
def test_a_segment_is_the_same_part_of_the_whole_whatever_the_container(
    write: Write, name: str, options: dict[str, str]
) -> None:
    recording = Recording(write(name, hum(3.0), **options))
    whole = read_wave(recording, AS_IS)
    assert len(whole) == 48_000
    for seed in range(5):
        start = int(np.random.default_rng(seed).integers(48_000 - 16_000 + 1))
        segment = read_segment(recording, AS_IS, 16_000, np.random.default_rng(seed))
        # the decoder of Opus is restarted shortly before: what it would remember of earlier sound is lost
        np.testing.assert_allclose(segment, whole[start : start + 16_000], atol=2e-3 if "opus" in name else 1e-6)


def test_a_segment_of_a_long_file_reads_little_of_it(write: Write) -> None:
    file = write("long.wav", np.zeros(16_000 * 600, np.int16))
    tracemalloc.start()
    try:
        read_segment(Recording(file), AS_IS, 32_000, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # the file decodes to 38 MB


def test_a_short_recording_is_repeated(write: Write) -> None:
    wave = hum(0.25)
    segment = read_segment(Recording(write("a.wav", wave, subtype="FLOAT")), AS_IS, 10_000, np.random.default_rng(0))
    np.testing.assert_array_equal(segment, np.concatenate([wave, wave, wave])[:10_000])


def test_spans_and_bytes_inside_an_archive_are_read_where_they_lie(write: Write, tmp_path: Path) -> None:
    wave = hum(2.0)
    inner = write("a.flac", wave).read_bytes()
    (tmp_path / "archive").write_bytes(b"x" * 1234 + inner + b"y" * 99)
    plain = read_wave(Recording(tmp_path / "a.flac"), AS_IS)
    inside = Recording(tmp_path / "archive", bytes_at=(1234, len(inner)))
    np.testing.assert_array_equal(read_wave(inside, AS_IS), plain)
    part = inside._replace(span=(0.5, 1.25))
    np.testing.assert_array_equal(read_wave(part, AS_IS), plain[8_000:20_000])
    np.testing.assert_array_equal(read_segment(part, AS_IS, 12_000, np.random.default_rng(0)), plain[8_000:20_000])


def peak_frequency(wave: NDArray[np.float32]) -> float:
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax()) * 16_000 / len(wave)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_pitch_and_length_alike(write: Write, speed: float) -> None:
    tone = np.sin(2 * np.pi * 1_000.0 * np.arange(64_000) / 16_000).astype(np.float32)
    segment = read_segment(Recording(write("a.wav", 0.5 * tone)), AS_IS, 32_000, np.random.default_rng(0), speed)
    assert len(segment) == 32_000
    assert peak_frequency(segment) == pytest.approx(1_000.0 * speed, abs=1.0)


def test_other_rates_are_refused_or_resampled(write: Write) -> None:
    tone = np.sin(2 * np.pi * 1_000.0 * np.arange(44_100) / 44_100)
    recording = Recording(write("a.wav", 0.5 * tone, 44_100))
    with pytest.raises(
        ValueError, match=r"a\.wav: its rate is 44100 Hz, not 16000: convert it to one channel of 16 kHz \("
    ):
        read_wave(recording, AS_IS)
    resampling = AudioFormat(other_rates="resample")
    wave = read_wave(recording, resampling)
    assert len(wave) == 16_000
    assert peak_frequency(wave) == pytest.approx(1_000.0, abs=1.0)
    with opened(recording, resampling) as sound:
        assert sound.samples == 16_000
    assert len(read_segment(recording, resampling, 20_000, np.random.default_rng(0))) == 20_000


def test_stereo_is_refused_or_made_one(write: Write) -> None:
    left, right = hum(0.5), hum(0.5, 300.0)
    recording = Recording(write("a.wav", np.stack([left, right], axis=1), subtype="FLOAT"))
    says = r"it has 2 channels, not one: convert it to one channel of 16 kHz \(for example: ffmpeg -i in\.wav -ac 1 "
    with pytest.raises(ValueError, match=rf"{says}-ar 16000 out\.wav\), or, in training, set channels to 'first' or"):
        read_wave(recording, AS_IS)
    np.testing.assert_array_equal(read_wave(recording, AudioFormat(channels="first")), left)
    np.testing.assert_allclose(read_wave(recording, AudioFormat(channels="mean")), (left + right) / 2, atol=1e-7)


def test_clipped_and_loud_samples_stay_as_they_are(write: Write) -> None:
    loud = np.clip(40 * hum(0.2), -3.0, 3.0)
    np.testing.assert_array_equal(read_wave(Recording(write("a.wav", loud, subtype="FLOAT")), AS_IS), loud)
    clipped = read_wave(Recording(write("b.wav", loud)), AS_IS)
    assert np.abs(clipped).max() == pytest.approx(1.0, abs=1e-4)


def test_silence_is_no_voice_but_may_be_a_segment(write: Write) -> None:
    recording = Recording(write("a.wav", np.zeros(8_000)))
    with pytest.raises(ValueError, match=r"a\.wav: every sample of it is zero: there is no voice in it; leave it out"):
        read_wave(recording, AS_IS)
    assert not read_segment(recording, AS_IS, 4_000, np.random.default_rng(0)).any()


def damaged(name: str, tmp_path: Path) -> Recording:
    wave = hum(1.0)
    soundfile.write(tmp_path / "whole.flac", wave, 16_000)
    soundfile.write(tmp_path / "whole.wav", wave, 16_000)
    file = tmp_path / name
    content = {
        "header.wav": b"RIFF\x00\x00\x00\x00JUNK",
        "text.wav": b"not audio at all",
        "empty.wav": b"",
        "cut.flac": (tmp_path / "whole.flac").read_bytes()[:8_000],
        "silent.wav": (tmp_path / "whole.wav").read_bytes()[:44],
    }
    if name in content:
        file.write_bytes(content[name])
    return Recording(file)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("header.wav", r"cannot read .*header\.wav: "),
        ("text.wav", r"text\.wav: Format not recognised; read are WAV, FLAC and Ogg: convert it, or leave it out"),
        ("empty.wav", r"cannot read .*empty\.wav: "),
        ("gone.wav", r"cannot read .*gone\.wav: there is no such file"),
        ("cut.flac", r"cannot read .*cut\.flac: "),
        ("silent.wav", r"cannot read .*silent\.wav: it holds 0 s of sound: there is nothing to read"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_wave(damaged(name, tmp_path), AS_IS)


def test_a_wav_that_was_cut_is_read_as_far_as_it_goes(write: Write, tmp_path: Path) -> None:
    content = write("a.wav", hum(1.0)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: 44 + 2 * 4_000])
    assert len(read_wave(Recording(tmp_path / "cut.wav"), AS_IS)) == 4_000


def test_other_formats_spans_and_numbers_are_refused(write: Write) -> None:
    aiff = Recording(write("a.aiff", hum(0.1)))
    with pytest.raises(ValueError, match=r"a\.aiff: it is AIFF.*; read are WAV, FLAC and Ogg"):
        read_wave(aiff, AS_IS)
    wave = hum(0.1)
    wave[7] = np.nan
    with pytest.raises(ValueError, match=r"b\.wav: it has samples that are not finite"):
        read_wave(Recording(write("b.wav", wave, subtype="FLOAT")), AS_IS)


@pytest.mark.parametrize(("last", "samples"), [(0.75, 4_000), (1.0, 8_000), (1.5, 8_000), (float("inf"), 8_000)])
def test_a_span_that_overshoots_a_little_ends_with_its_recording(write: Write, last: float, samples: int) -> None:
    file = write("a.wav", hum(1.0))
    whole = read_wave(Recording(file), AS_IS)
    np.testing.assert_array_equal(read_wave(Recording(file, span=(0.5, last)), AS_IS), whole[8_000 : 8_000 + samples])


@pytest.mark.parametrize(
    ("span", "says"),
    [
        ((0.5, 1.51), r"from 0\.5 s to 1\.51 s: it holds 1 s of sound, and this part reaches beyond its end; do the"),
        ((1.0, 1.1), r"from 1 s to 1\.1 s: it holds 1 s of sound, and this part reaches beyond its end"),
        ((2.0, float("inf")), r"from 2 s to its end: it holds 1 s of sound, and this part reaches beyond its end"),
        ((0.5, 0.50001), r"this part has no sample: there is nothing to read; leave it out"),
    ],
)
def test_a_span_that_is_not_in_its_recording_is_refused(write: Write, span: tuple[float, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_wave(Recording(write("a.wav", hum(1.0)), span=span), AS_IS)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"sample_rate": 0}, r"AudioFormat.sample_rate must be an integer >= 1, got 0"),
        (
            {"sample_rate": 16, "other_rates": "resample"},
            r"AudioFormat.sample_rate must be at least 1,000 samples a second, for example 16000 for 16 kHz, got 16",
        ),
        ({"sample_rate": 999}, r"AudioFormat.sample_rate must be at least 1,000 samples a second, .* got 999"),
        ({"channels": "left"}, r"AudioFormat.channels must be 'one', 'first' or 'mean', got 'left'"),
        ({"other_rates": "ignore"}, r"AudioFormat.other_rates must be 'refuse' or 'resample', got 'ignore'"),
    ],
)
def test_the_format_refuses_what_it_does_not_know(change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        AudioFormat(**change)


def test_a_relative_path_that_is_not_found_says_what_it_is_relative_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of `--audio-list`."""
    monkeypatch.chdir(tmp_path)
    law = rf"cannot read gone.wav: there is no such file \(gone.wav is a relative path, .* here {tmp_path}: start where"
    with pytest.raises(ValueError, match=law):
        read_wave(Recording(Path("gone.wav")), AS_IS)
    with pytest.raises(ValueError, match=r"gone.wav: there is no such file$"):
        read_wave(Recording(tmp_path / "gone.wav"), AS_IS)
