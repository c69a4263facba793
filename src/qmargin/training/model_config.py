"""What a model file or an exported model says beside its weights: network, input, origin."""

from dataclasses import dataclass, field

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, IResNetConfig, MobileFaceNetConfig, SpeakerResNetConfig
from qmargin.data import ImageFormat
from qmargin.data.speech import FrontEnd


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model of images.

    Sibling: `SpeechModelConfig`.
    """

    backbone: IResNetConfig | MobileFaceNetConfig
    """The network."""
    image: ImageFormat
    """What it takes: images of this format, scaled to [-1, 1] as `qmargin.data.normalise` does."""
    source: str
    """Where the weights come from: recipe and loss of a run, or the file that was imported."""
    step: int = 0
    """Training step of the weights; 0 where that is not known."""


@dataclass(frozen=True, kw_only=True)
class SpeechModelConfig:
    """A model of speech, with the front-end that its weights are for.

    Raises:
        ValueError: the front-end gives another number of bins than the network takes.

    Example:
        >>> SpeechModelConfig(backbone=EcapaConfig(), source="here").front_end.window
        'hamming'

    Sibling: `ModelConfig`.
    """

    backbone: EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig
    """The network."""
    front_end: FrontEnd = field(default_factory=FrontEnd.wespeaker)
    """How recordings become what it takes."""
    source: str
    """Where the weights come from: recipe and loss of a run."""
    step: int = 0
    """Training step of the weights; 0 where that is not known."""

    def __post_init__(self) -> None:
        """Refuse a front-end of another network."""
        if self.backbone.input_shape != (self.front_end.bins,):
            raise ValueError(
                f"the network takes features of {self.backbone.bins} bins, the front-end gives {self.front_end.bins}: "
                "set both to the same"
            )


AnyModelConfig = ModelConfig | SpeechModelConfig
