"""Features of whole recordings, computed when they are first asked for and kept in files: training then cuts them."""

from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np

from qmargin._files import make_folder, replacing
from qmargin.data.speech.fbank import Features, FrontEnd, fbank
from qmargin.data.speech.wav import Recording, RecordingError, opened, resampled, tiled


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """A folder of features, float32, a file for each recording and speed; several processes may share it.

    A file's name is a digest of the front-end, the speed, and path, size and time of the recording: what has changed is
    computed anew, and nothing is ever removed. Kept are features without dither and with their mean, so that those of
    frames i to j are those of the samples they are made of, exactly.

    Args:
        folder: created where missing.
        front_end: how features are computed; of its dither and mean nothing is kept.
    """

    folder: Path
    front_end: FrontEnd
    _writing: Lock = field(default_factory=Lock, repr=False)  # one at a time: two threads may want one file

    def features(self, recording: Recording, speed: float = 1.0) -> Features:
        """Features (frames, bins) of a whole recording at another speed, mapped from their file, read-only.

        A recording shorter than a window is repeated, as in training.

        Raises:
            ValueError: what `opened` refuses, a folder that cannot be written, or a damaged file in it.
        """
        file = self._file(recording, speed)
        if not file.exists():
            with self._writing:
                if not file.exists():
                    self._keep(file, self._computed(recording, speed))
        try:
            kept: Features = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{file} holds no features ({error}): remove it, and they are computed anew") from error
        return kept

    def _file(self, recording: Recording, speed: float) -> Path:
        try:
            state = recording.file.stat()
        except OSError as error:
            raise RecordingError(f"cannot read {recording}: {error.strerror}") from error
        audio = self.front_end.audio
        made_by = (self.front_end.bins, self.front_end.window, self.front_end.wave_scale, audio, speed)
        name = (made_by, recording.file.resolve(), recording.span, recording.bytes_at, state.st_size, state.st_mtime_ns)
        digest = sha256(repr(name).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:40]}.npy"

    def _computed(self, recording: Recording, speed: float) -> Features:
        front_end = self.front_end
        with opened(recording, front_end.audio) as sound:
            ratio = Fraction(front_end.audio.sample_rate, sound.rate) / Fraction(str(speed))
            wave = resampled(sound.read(0, sound.length), ratio)
        return fbank(tiled(wave, max(len(wave), front_end.samples(1))), front_end, subtract_mean=False)

    def _keep(self, file: Path, features: Features) -> None:
        make_folder(file.parent)
        with replacing(file) as temporary, temporary.open("wb") as out:
            np.save(out, features, allow_pickle=False)


def cut(features: Features, frames: int, generator: np.random.Generator, *, subtract_mean: bool) -> Features:
    """A random segment of kept features; where there are fewer frames they are repeated.

    Args:
        features: of a whole recording (all frames, bins).
        frames: of the segment.
        generator: draws the first frame, one number for each call.
        subtract_mean: whether the segment's mean is taken off each bin.

    Returns:
        (frames, bins), a new array.

    Example:
        >>> ramp = np.arange(3, dtype=np.float32)[:, None]
        >>> cut(ramp, 5, np.random.default_rng(0), subtract_mean=False).ravel().tolist()
        [0.0, 1.0, 2.0, 0.0, 1.0]
    """
    start = int(generator.integers(max(len(features) - frames, 0) + 1))
    segment: Features = np.resize(features[start : start + frames], (frames, features.shape[1]))
    if subtract_mean:
        segment = segment - segment.mean(axis=0, dtype=np.float64).astype(np.float32)
    return segment
