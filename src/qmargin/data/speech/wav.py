"""From a recording to samples: segments are sought in the file, never cut from the whole. Formats are never guessed.

What is read: WAV (RF64 too), FLAC and Ogg (Opus, Vorbis), told by their content. Samples are floats, full scale is 1;
floating-point WAV beyond full scale stays as it is, and so do clipped samples. A WAV that is shorter than its header
says is read as far as it goes; a FLAC or Ogg that ends too soon is an error where the missing part is asked for.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from qmargin.data._checks import check_counts
from qmargin.data.speech.relative import working_directory

Wave = NDArray[np.float32]  # (samples,)
Channels = Literal["one", "first", "mean"]
OtherRates = Literal["refuse", "resample"]

CONTAINERS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG")
LOWEST_RATE = 1_000  # samples a second; less is a rate in kHz
OVERSHOOT = 0.5  # seconds; ends that lie as far behind a recording's are cut to it, as Kaldi's extract-segments does
AUDIO_EXTENSIONS = (".flac", ".oga", ".ogg", ".opus", ".wav")  # in any case; what folders are searched for


class Recording(NamedTuple):
    """Where an utterance lies: a file, or bytes of one; all of it, or a span of its seconds."""

    file: Path
    span: tuple[float, float] | None = None  # first second, and the one after the last (infinity: the end); None is all
    bytes_at: tuple[int, int] | None = None  # offset and size of the audio file inside `file`; None is all of it

    def __str__(self) -> str:
        inside = "" if self.bytes_at is None else f" at byte {self.bytes_at[0]:,}"
        if self.span is None:
            return f"{self.file}{inside}"
        first, last = self.span
        return f"{self.file}{inside} from {first:g} s to {'its end' if last == math.inf else f'{last:g} s'}"


class RecordingError(ValueError):
    """A recording that cannot be read; the message names it."""


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """What every recording is turned into, and what is refused instead.

    Raises:
        ValueError: a rate below 1,000, or an unknown way to treat channels or rates.
    """

    sample_rate: int = 16_000
    """Samples a second of every wave."""
    channels: Channels = "one"
    """one refuses stereo; first takes the first channel, mean the mean of all."""
    other_rates: OtherRates = "refuse"
    """refuse refuses recordings of another rate; resample changes them (polyphase, Kaiser window)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_counts("AudioFormat", 1, sample_rate=self.sample_rate)
        if self.sample_rate < LOWEST_RATE:
            raise ValueError(
                f"AudioFormat.sample_rate must be at least {LOWEST_RATE:,} samples a second, for example 16000 for "
                f"16 kHz, got {self.sample_rate}"
            )
        if self.channels not in ("one", "first", "mean"):
            raise ValueError(f"AudioFormat.channels must be 'one', 'first' or 'mean', got {self.channels!r}")
        if self.other_rates not in ("refuse", "resample"):
            raise ValueError(f"AudioFormat.other_rates must be 'refuse' or 'resample', got {self.other_rates!r}")


class OpenRecording:
    """A recording that is open: its length is known, and parts of it are read where they lie."""

    def __init__(self, recording: Recording, sound: soundfile.SoundFile, audio: AudioFormat) -> None:
        self._sound, self._audio = sound, audio
        if sound.format not in CONTAINERS:
            raise ValueError(f"it is {sound.format_info}; read are WAV, FLAC and Ogg (Opus, Vorbis): convert it first")
        if sound.channels != 1 and audio.channels == "one":
            raise ValueError(
                f"it has {sound.channels} channels, not one: {_conversion(audio)}, or, in training, set channels to "
                "'first' or 'mean' (--data.front-end.audio.channels)"
            )
        if sound.samplerate != audio.sample_rate and audio.other_rates == "refuse":
            raise ValueError(
                f"its rate is {sound.samplerate} Hz, not {audio.sample_rate}: {_conversion(audio)}, or, in training, "
                "set other_rates to 'resample' (--data.front-end.audio.other-rates)"
            )
        self.rate: int = sound.samplerate
        self._first, stop = _samples_of(recording.span, sound.frames, self.rate)
        self.length: int = stop - self._first  # samples, at `rate`

    @property
    def samples(self) -> int:
        """Length at the rate of the `AudioFormat`."""
        return -(-self.length * self._audio.sample_rate // self.rate)

    def read(self, start: int, count: int) -> Wave:
        """`count` samples from `start` on, both at the file's own `rate`; (count,), channels made one."""
        assert 0 <= start <= start + count <= self.length, (start, count, self.length)
        self._sound.seek(self._first + start)
        wave = self._sound.read(count, dtype="float32", always_2d=True)  # (count, channels)
        if len(wave) < count:
            raise ValueError(f"it ends before the {self._first + start + count:,} samples that its header promises")
        mono: Wave = wave[:, 0] if self._audio.channels != "mean" else wave.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise ValueError("it has samples that are not finite numbers")
        return mono


@contextmanager
def opened(recording: Recording, audio: AudioFormat) -> Iterator[OpenRecording]:
    """Open a recording to read parts of it; every fault names it.

    Args:
        recording: which.
        audio: what it must be, or is turned into.

    Raises:
        RecordingError: no such file, none of the formats, a damaged one, other channels or rate than `audio` lets
            through, a span that is not in it, samples that are not finite.
    """
    try:
        with recording.file.open("rb") as file, _sound(file, recording) as sound:
            yield OpenRecording(recording, sound, audio)
    except FileNotFoundError as error:
        advice = working_directory(recording.file)
        raise RecordingError(f"cannot read {recording}: there is no such file{advice}") from error
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        raise RecordingError(f"cannot read {recording}: {_reason(error)}") from error


def read_wave(recording: Recording, audio: AudioFormat) -> Wave:
    """The whole recording, (samples,) at the rate of `audio`.

    Raises:
        ValueError: what `opened` refuses, and digital silence: no voice can be told from it.

    Sibling: `read_segment`, a part of it for training.
    """
    with opened(recording, audio) as sound:
        wave = sound.read(0, sound.length)
        if not wave.any():
            raise ValueError("every sample of it is zero: there is no voice in it; leave it out")
        return resampled(wave, Fraction(audio.sample_rate, sound.rate))


def read_segment(
    recording: Recording, audio: AudioFormat, samples: int, generator: np.random.Generator, speed: float = 1.0
) -> Wave:
    """A random segment of a recording, at another speed; where it is shorter than the segment it is repeated.

    A speed of 1.1 plays faster: shorter by 1.1 and higher by as much, as sox's `speed` does.

    Args:
        recording: which.
        audio: what it must be, or is turned into.
        samples: of the segment, at the rate of `audio`.
        generator: draws the first sample, one number for each call.
        speed: > 0.

    Returns:
        (samples,); silence is returned as it is.

    Raises:
        ValueError: what `opened` refuses.
    """
    with opened(recording, audio) as sound:
        ratio = Fraction(audio.sample_rate, sound.rate) / Fraction(str(speed))
        needed = -(-samples * ratio.denominator // ratio.numerator)
        start = int(generator.integers(max(sound.length - needed, 0) + 1))
        return tiled(resampled(sound.read(start, min(needed, sound.length)), ratio), samples)


def tiled(wave: Wave, samples: int) -> Wave:
    """The wave repeated until there are so many samples, and cut there; (samples,)."""
    return np.resize(wave, samples) if len(wave) < samples else wave[:samples]


def resampled(wave: Wave, ratio: Fraction) -> Wave:
    """The wave at `ratio` times as many samples a second; (ceil(samples * ratio),)."""
    if ratio == 1:
        return wave
    changed: Wave = resample_poly(wave, ratio.numerator, ratio.denominator).astype(np.float32, copy=False)
    return changed


def _conversion(audio: AudioFormat) -> str:
    """How a file that is read, in any command, becomes one that is let through."""
    rate = audio.sample_rate
    return f"convert it to one channel of {rate / 1000:g} kHz (for example: ffmpeg -i in.wav -ac 1 -ar {rate} out.wav)"


def _reason(error: Exception) -> str:
    """What went wrong; libsndfile's own words say nothing of what would have been right."""
    if not isinstance(error, soundfile.LibsndfileError):
        return str(error)
    return f"{error.error_string.rstrip('.')}; read are WAV, FLAC and Ogg: convert it, or leave it out"


def _samples_of(span: tuple[float, float] | None, frames: int, rate: int) -> tuple[int, int]:
    """First sample of a span and the one after its last, in a recording of so many; None is all of it."""
    if frames == 0:
        raise ValueError("it holds 0 s of sound: there is nothing to read; leave it out")
    if span is None:
        return 0, frames
    first, stop = round(span[0] * rate), frames if span[1] == math.inf else round(span[1] * rate)
    if not 0 <= first < frames or stop > frames + OVERSHOOT * rate:
        raise ValueError(
            f"it holds {frames / rate:g} s of sound, and this part reaches beyond its end; do the times belong to it?"
        )
    if stop <= first:
        raise ValueError("this part has no sample: there is nothing to read; leave it out")
    return first, min(stop, frames)


class _Part(io.RawIOBase):
    """Some bytes of an open file as a file of their own, for libsndfile to seek in."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override] # a bytearray or memoryview
        self._file.seek(self._offset + self._at)
        part = self._file.read(max(min(len(buffer), self._size - self._at), 0))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _sound(file: BinaryIO, recording: Recording) -> soundfile.SoundFile:
    source = file if recording.bytes_at is None else _Part(file, *recording.bytes_at)
    return soundfile.SoundFile(source)
