"""Input and output of an exported model: names, sizes that stay free, what it is tried on, and words for people."""

from collections.abc import Mapping
from dataclasses import dataclass

from qmargin.data import ImageFormat
from qmargin.data.speech import FrontEnd
from qmargin.training.model_config import AnyModelConfig, SpeechModelConfig

BATCHES = (1, 3)  # that are compared; the graph is traced with another one
UTTERANCES = ((1, 17), (3, 98), (2, 301), (1, 1000))  # batch and frames that are compared; traced are 2 of 64
BOTH_SIDES = "raw: add that of the mirrored image, divide by the length, compare by the dot product"
ONE_SIDE = "raw: divide by the length, compare by the dot product"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What goes in and out of an exported model."""

    input: str
    """Name of the input; the output is `embeddings`."""
    traced: tuple[int, ...]
    """Shape of the input that the graph is made with."""
    free: Mapping[int, str]
    """Axes of the input that may have any size, by name."""
    tried: tuple[tuple[int, ...], ...]
    """Shapes that are compared with torch."""
    spread: float
    """Compared inputs are uniform in [-spread, spread]."""
    preprocessing: str
    """How an input is made, in words."""
    embedding: str
    """What to do with the output, in words."""


def interface_of(config: AnyModelConfig) -> Interface:
    """That of a model of images or of speech.

    Example:
        >>> from qmargin.backbones import EcapaConfig
        >>> interface_of(SpeechModelConfig(backbone=EcapaConfig(), source="here")).free
        {0: 'batch', 1: 'frames'}
    """
    if isinstance(config, SpeechModelConfig):
        bins = config.front_end.bins
        return Interface(
            input="features",
            traced=(2, 64, bins),
            free={0: "batch", 1: "frames"},
            tried=tuple((batch, frames, bins) for batch, frames in UTTERANCES),
            spread=5.0,
            preprocessing=speech_preprocessing(config.front_end),
            embedding=ONE_SIDE,
        )
    shape = config.backbone.input_shape
    return Interface(
        input="images",
        traced=(2, *shape),
        free={0: "batch"},
        tried=tuple((batch, *shape) for batch in BATCHES),
        spread=1.0,
        preprocessing=preprocessing(config.image),
        embedding=BOTH_SIDES,
    )


def preprocessing(image: ImageFormat) -> str:
    """How pixels become the input, in words."""
    colours = "RGB" if image.channels == 3 else "luminance"
    size = {"exact": "of exactly that size", "resize": "scaled to that size"}[image.fit]
    return (
        f"{colours}, {image.height} pixels high and {image.width} wide ({size}), aligned as the training images; "
        "values x / 127.5 - 1, in [-1, 1]; layout (batch, channels, height, width)"
    )


def speech_preprocessing(front_end: FrontEnd) -> str:
    """How samples become the input, in words."""
    mean = (
        "the mean over the utterance's frames is taken off each bin"
        if front_end.subtract_mean
        else "no mean is taken off"
    )
    return (
        f"{front_end.audio.sample_rate} Hz, one channel; samples in [-1, 1] times {front_end.wave_scale:g}; "
        f"{front_end.bins} log mel filter banks as Kaldi computes them (25 ms every 10 ms, {front_end.window} window, "
        f"snip_edges, no dither, no energy); {mean}; layout (batch, frames, bins), all utterances of a batch equally "
        "long"
    )
