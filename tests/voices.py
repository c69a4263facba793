"""Recordings made here for the tests: a hum of several tones a speaker, with noise; no two are alike."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def hum(seconds: float, pitch: float = 120.0, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """Harmonics of a pitch and a little noise."""
    times = np.arange(round(seconds * rate)) / rate
    tones = np.sum([np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 9)], axis=0)
    noise = np.random.default_rng(seed).standard_normal(len(times))
    wave: NDArray[np.float32] = (0.1 * tones + 0.01 * noise).astype(np.float32)
    return wave


def write_voices(folder: Path, speakers: int = 3, utterances: int = 2, first: int = 0) -> Path:
    """Folders `id0/video/0.wav` of some speakers, each pitch its own, of 1 s, 1.5 s, ... each."""
    for speaker in range(first, first + speakers):
        for utterance in range(utterances):
            file = folder / f"id{speaker}" / "video" / f"{utterance}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            wave = hum(1.0 + 0.5 * utterance, 100.0 + 40.0 * speaker, seed=10 * speaker + utterance)
            soundfile.write(file, wave, 16_000)
    return folder
