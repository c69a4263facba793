"""Filter banks as Kaldi computes them, by kaldi-native-fbank; the front-end is data and travels with the checkpoint."""

from dataclasses import dataclass, field
from typing import Literal

import kaldi_native_fbank
import numpy as np
from numpy.typing import NDArray

from qmargin.data._checks import check_counts
from qmargin.data.speech.wav import AudioFormat, Recording, Wave, read_wave

Features = NDArray[np.float32]  # (frames, bins)
SIXTEEN_BIT = 2.0**15
FEWEST_BINS = 3
MOST_BINS = 1_000  # of a spectrum of 2048 points; for more, memory runs out


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Log mel filter banks of 25 ms windows every 10 ms, snipped at the edges, their mean over the utterance taken off.

    Kaldi's defaults otherwise: offset removed, preemphasis 0.97, power spectrum of 512 points, bins from 20 Hz to half
    the rate, natural logarithm of at least 1.2e-7. Two presets are in use: `FrontEnd.wespeaker()` and
    `FrontEnd.speaker_3d()`. They are not interchangeable: embeddings of one under the weights of the other are wrong
    without an error, so extraction reads this out of the run's config.

    Raises:
        ValueError: fewer than 3 bins, more than the spectrum has lines for, an unknown window, a scale or dither that
            is none.

    Example:
        >>> FrontEnd.wespeaker().frames(32_240), FrontEnd.wespeaker().samples(200)
        (200, 32240)
    """

    bins: int = 80
    """Mel bins."""
    window: Literal["hamming", "povey"] = "hamming"
    """Shape of the analysis window."""
    wave_scale: float = SIXTEEN_BIT
    """What samples of full scale 1 are multiplied by: 32768 (16-bit numbers) or 1."""
    dither: float = 1.0
    """Standard deviation of the white noise added to training waves, in steps of 16 bits, whatever the scale."""
    subtract_mean: bool = True
    """Whether the mean over the frames is taken off each bin."""
    audio: AudioFormat = field(default_factory=AudioFormat)
    """What recordings must be like, and what is done to those that are not."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        check_counts("FrontEnd", FEWEST_BINS, bins=self.bins)
        if self.window not in ("hamming", "povey"):
            raise ValueError(f"FrontEnd.window must be 'hamming' or 'povey', got {self.window!r}")
        if not 0.0 < self.wave_scale < float("inf"):
            raise ValueError(f"FrontEnd.wave_scale must be a finite number > 0, got {self.wave_scale!r}")
        if not 0.0 <= self.dither < float("inf"):
            raise ValueError(f"FrontEnd.dither must be a finite number >= 0, got {self.dither!r}")
        if not _computable(self, self.bins):
            fewer = next(bins for bins in range(min(self.bins, MOST_BINS), 0, -1) if _computable(self, bins))
            raise ValueError(
                f"FrontEnd.bins: {self.bins} mel bins are too many at {self.audio.sample_rate:,} samples a second, "
                f"some would have no line of the spectrum: {fewer} is the next number that can be computed, 80 is "
                "usual at 16,000"
            )

    @classmethod
    def wespeaker(cls) -> "FrontEnd":
        """WeSpeaker's: Hamming window, samples as 16-bit numbers."""
        return cls(window="hamming", wave_scale=SIXTEEN_BIT)

    @classmethod
    def speaker_3d(cls) -> "FrontEnd":
        """3D-Speaker's: Povey window, samples in [-1, 1]."""
        return cls(window="povey", wave_scale=1.0)

    def frames(self, samples: int) -> int:
        """Windows that fit into so many samples."""
        return max((samples - self._length) // self._shift + 1, 0)

    def samples(self, frames: int) -> int:
        """The least number of samples with so many frames, >= 1."""
        return (frames - 1) * self._shift + self._length

    def features(self, wave: Wave, generator: np.random.Generator | None = None) -> Features:
        """`fbank` of a wave with these settings."""
        return fbank(wave, self, generator)

    @property
    def _length(self) -> int:
        return self.audio.sample_rate * 25 // 1000

    @property
    def _shift(self) -> int:
        return self.audio.sample_rate * 10 // 1000


def fbank(
    wave: Wave, front_end: FrontEnd, generator: np.random.Generator | None = None, *, subtract_mean: bool | None = None
) -> Features:
    """Log mel filter banks of a wave.

    Dither is added to the wave, once a sample; Kaldi adds it to each window anew, so that a sample under several
    windows has several noises there. Its own comes from a generator that cannot be seeded, and is off here.

    Args:
        wave: (samples,) of full scale 1, at least one window long.
        front_end: how.
        generator: draws the dither; None adds none, as for extraction.
        subtract_mean: instead of the front-end's.

    Returns:
        (frames, bins).

    Raises:
        ValueError: the wave is shorter than a window.

    Example:
        >>> wave = np.sin(np.arange(16_000, dtype=np.float32) / 8)
        >>> fbank(wave, FrontEnd.wespeaker()).shape
        (98, 80)

    Reference: Povey et al., "The Kaldi speech recognition toolkit", 2011.
    """
    if front_end.frames(len(wave)) == 0:
        raise ValueError(
            f"it has {len(wave)} samples, less than a window of {front_end.samples(1)} (25 ms): leave it out"
        )
    if generator is not None and front_end.dither > 0.0:
        noise = generator.standard_normal(len(wave), dtype=np.float32)
        wave = wave + np.float32(front_end.dither / SIXTEEN_BIT) * noise
    computer = kaldi_native_fbank.OnlineFbank(_options(front_end, front_end.bins))
    computer.accept_waveform(front_end.audio.sample_rate, (wave * np.float32(front_end.wave_scale)).tolist())
    computer.input_finished()
    features = np.stack([computer.get_frame(frame) for frame in range(computer.num_frames_ready)])  # (frames, bins)
    if front_end.subtract_mean if subtract_mean is None else subtract_mean:
        features -= features.mean(axis=0, dtype=np.float64).astype(np.float32)
    return features


def recording_features(recording: Recording, front_end: FrontEnd) -> Features:
    """Features of a whole recording, (frames, bins), without dither: the same each time.

    Raises:
        ValueError: what `read_wave` refuses, or a recording shorter than a window; the message names it.
    """
    wave = read_wave(recording, front_end.audio)
    try:
        return fbank(wave, front_end)
    except ValueError as error:
        raise ValueError(f"cannot embed {recording}: {error}") from error


def _computable(front_end: FrontEnd, bins: int) -> bool:
    """Whether there are filter banks of so many bins."""
    if bins > MOST_BINS:
        return False
    try:
        kaldi_native_fbank.OnlineFbank(_options(front_end, bins))
    except ValueError:  # "You may have set num_mel_bins too large."
        return False
    return True


def _options(front_end: FrontEnd, bins: int) -> kaldi_native_fbank.FbankOptions:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = front_end.audio.sample_rate
    options.frame_opts.window_type = front_end.window
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = bins
    options.use_energy = False
    options.energy_floor = 0.0
    return options
