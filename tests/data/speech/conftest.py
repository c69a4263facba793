"""Recordings on the disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.voices import write_voices


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Folders of three speakers with two utterances of 1 and 1.5 s each, in WAV."""
    return write_voices(tmp_path / "voices")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a wave as a file of that name."""

    def written(name: str, wave: NDArray[np.generic], rate: int = 16_000, **options: str) -> Path:
        soundfile.write(tmp_path / name, wave, rate, **options)
        return tmp_path / name

    return written
