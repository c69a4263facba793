"""Noise and reverberation for training waves: from recorded sets (MUSAN, impulse responses), or made up."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from qmargin.data._checks import check_counts
from qmargin.data.speech.folders import audio_below
from qmargin.data.speech.wav import AudioFormat, Recording, Wave, read_segment, read_wave

OtherVoice = Callable[[np.random.Generator], Wave]  # a segment of someone else, as long as the wave


class Kind(NamedTuple):
    """One kind of noise: from so many dB below the voice to so many."""

    name: str
    low: float
    high: float


MUSAN = (Kind("noise", 0.0, 15.0), Kind("speech", 10.0, 30.0), Kind("music", 5.0, 15.0))  # folders of the set
COLOURED, BABBLE = Kind("coloured", 0.0, 15.0), Kind("babble", 10.0, 30.0)
VOICES = (3, 7)  # of babble
ROOM_SIDES = ((3.0, 10.0), (3.0, 10.0), (2.5, 4.0))  # metres: length, width, height
ROOM_DECAY = (0.2, 0.6)  # seconds until an echo is 60 dB down


@dataclass(frozen=True, kw_only=True)
class RecordedNoise:
    """Half of the corrupted waves get an impulse response, half a noise of MUSAN's, as WeSpeaker has it.

    Noise is 0 to 15 dB below the voice, speech 10 to 30, music 5 to 15; the three are drawn alike. An impulse response
    is cut at its peak, has unit energy, and the wave keeps its length.
    """

    musan: Path
    """MUSAN's folder, with `noise`, `speech` and `music` in it."""
    impulse_responses: Path
    """Folder of impulse responses, searched at any depth (simulated_rirs of openslr 28)."""

    def check(self) -> None:
        """Refuse folders that hold no audio: before a run begins, not at its first noise."""
        for folder in (*(self.musan / kind.name for kind in MUSAN), self.impulse_responses):
            _audio(folder)

    def corrupt(self, wave: Wave, generator: np.random.Generator, audio: AudioFormat, _other: OtherVoice) -> Wave:
        """The wave, corrupted."""
        if generator.random() < 0.5:
            return reverberated(wave, _drawn_response(self.impulse_responses, generator, audio))
        kind = MUSAN[int(generator.integers(len(MUSAN)))]
        files = _audio(self.musan / kind.name)
        noise = read_segment(Recording(files[int(generator.integers(len(files)))]), audio, len(wave), generator)
        return mixed(wave, noise, generator.uniform(kind.low, kind.high))


@dataclass(frozen=True, kw_only=True)
class SyntheticNoise:
    """Without any set: coloured noise, babble of other speakers of the training set, simulated rooms; drawn alike.

    Coloured noise has a power of 1/f^b with b uniform in [0, 2], 0 to 15 dB below the voice; babble is the sum of 3 to
    7 segments, 10 to 30 dB below; rooms are boxes of 3-10 by 3-10 by 2.5-4 m whose echoes fall by 60 dB in 0.2 to
    0.6 s, by the image method of pyroomacoustics (`pip install 'qmargin[rooms]'`).
    """

    rooms: int = 100
    """Rooms simulated, once a run; 0 for no reverberation."""
    seed: int = 0
    """Seed of the rooms."""

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        check_counts("SyntheticNoise", 0, rooms=self.rooms, seed=self.seed)

    def check(self) -> None:
        """Refuse rooms without what simulates them: before a run begins, not at its first echo."""
        if self.rooms:
            _rooms()

    def corrupt(self, wave: Wave, generator: np.random.Generator, audio: AudioFormat, other: OtherVoice) -> Wave:
        """The wave, corrupted."""
        chosen = int(generator.integers(3 if self.rooms else 2))
        if chosen == 0:
            noise = coloured_noise(len(wave), generator.uniform(0.0, 2.0), generator)
            return mixed(wave, noise, generator.uniform(COLOURED.low, COLOURED.high))
        if chosen == 1:
            voices = int(generator.integers(VOICES[0], VOICES[1] + 1))
            babble = np.sum([_levelled(other(generator)) for _ in range(voices)], axis=0)
            return mixed(wave, babble, generator.uniform(BABBLE.low, BABBLE.high))
        room = int(generator.integers(self.rooms))
        return reverberated(wave, room_response(self.seed, room, audio.sample_rate))


Noise = RecordedNoise | SyntheticNoise


def mixed(wave: Wave, noise: Wave, snr: float) -> Wave:
    """The wave plus the noise, scaled to lie `snr` dB below it in mean power; a silent one of the two adds nothing.

    Example:
        >>> wave, noise = np.ones(4, np.float32), np.array([3, -3, 3, -3], np.float32)
        >>> mixed(wave, noise, 20.0)
        array([1.1, 0.9, 1.1, 0.9], dtype=float32)
    """
    power, noise_power = (float(np.mean(np.square(x, dtype=np.float64))) for x in (wave, noise))
    if power == 0.0 or noise_power == 0.0:
        return wave
    gain = np.sqrt(power / noise_power * 10.0 ** (-snr / 10.0))
    result: Wave = (wave + gain * noise).astype(np.float32)
    return result


def reverberated(wave: Wave, response: NDArray[np.floating]) -> Wave:
    """The wave in a room: convolved with the response from its peak on, which has unit energy; same length."""
    tail = np.asarray(response[int(np.abs(response).argmax()) :], dtype=np.float64)
    tail = tail / np.sqrt(np.sum(tail**2))
    result: Wave = fftconvolve(wave, tail)[: len(wave)].astype(np.float32)
    return result


def coloured_noise(samples: int, slope: float, generator: np.random.Generator) -> Wave:
    """Gaussian noise with a power of 1 / f^slope: 0 is white, 1 pink, 2 brown; (samples,)."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    frequency = np.maximum(np.arange(len(spectrum)), 1)
    noise: Wave = np.fft.irfft(spectrum * frequency ** (-slope / 2.0), samples).astype(np.float32)
    return noise


@cache
def room_response(seed: int, room: int, sample_rate: int) -> NDArray[np.float32]:
    """Impulse response of a made-up box, a pure function of (seed, room); walls absorb as Sabine's formula asks."""
    pyroomacoustics = _rooms()
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(room,)))
    sides = [generator.uniform(*limits) for limits in ROOM_SIDES]
    absorption, order = pyroomacoustics.inverse_sabine(generator.uniform(*ROOM_DECAY), sides)
    box = pyroomacoustics.ShoeBox(
        sides, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=min(order, 20)
    )
    for add in (box.add_source, box.add_microphone):
        add([side * generator.uniform(0.1, 0.9) for side in sides])
    box.compute_rir()
    response: NDArray[np.float32] = np.asarray(box.rir[0][0], dtype=np.float32)
    return response


def _rooms() -> ModuleType:
    """The module that simulates rooms."""
    try:
        import pyroomacoustics  # noqa: PLC0415 - an extra: a second to import, and most runs need no rooms
    except ImportError as error:
        raise ValueError(
            "simulated rooms need pyroomacoustics: pip install 'qmargin[rooms]', or set rooms to 0 in SyntheticNoise "
            "(--data.augmentation.noise.rooms 0)"
        ) from error
    module: ModuleType = pyroomacoustics
    return module


@cache
def _audio(folder: Path) -> tuple[Path, ...]:
    """Audio files below a folder; listed once a run."""
    try:
        return tuple(folder / name for name in audio_below(folder))
    except ValueError as error:
        raise ValueError(
            f"RecordedNoise: {error}. Its sets are MUSAN (--data.augmentation.noise.musan DIR) and impulse responses "
            "(--data.augmentation.noise.impulse-responses DIR); --data.augmentation.noise.kind SyntheticNoise needs no "
            "set, None adds no noise"
        ) from error


def _drawn_response(folder: Path, generator: np.random.Generator, audio: AudioFormat) -> Wave:
    files = _audio(folder)
    return read_wave(Recording(files[int(generator.integers(len(files)))]), audio)


def _levelled(wave: Wave) -> Wave:
    """The wave at a mean power of 1, or silence as it is."""
    level = np.sqrt(np.mean(np.square(wave, dtype=np.float64)))
    return wave if level == 0.0 else (wave / level).astype(np.float32)
