"""The whole setting of a training run: frozen, keyword-only, validated; what is saved is what ran.

Nothing rewrites a setting after loading. A recipe (`qmargin.recipes`) is a function that returns a `TrainConfig`; the
command line replaces single fields of it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

import tyro
from torch import Tensor

from qmargin.backbones import EcapaConfig, IResNetConfig, MobileFaceNetConfig, SpeakerResNetConfig
from qmargin.data import (
    Augmentation,
    ImageBatches,
    ImageFolders,
    ImageFormat,
    ManifestFile,
    OrlFaces,
    Samples,
    ShuffledBatches,
    SyntheticIdentities,
    normalise,
)
from qmargin.data.sample_table import SampleTable
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.training.schedule import DECAYS
from qmargin.training.speech_data import SpeechDataConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is decoded and augmented, and which identities are held out."""

    source: OrlFaces | ImageFolders | ManifestFile | SyntheticIdentities
    """Where the images and their identities come from."""
    image: ImageFormat
    """Size and channels every image is decoded to."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of training images; evaluation sees none."""
    validation_identities: int = 0
    """Training identities held out, whole, for choosing settings (evaluate --split validation)."""
    validation_seed: int = 0
    """Seed of the choice of validation identities; the same for every run that is compared."""
    workers: int = 2
    """Threads that decode images."""

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        _at_least("data.validation_identities", self.validation_identities, 0)
        _at_least("data.workers", self.workers, 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the images."""
        return self.image.shape

    def num_classes(self, samples: SampleTable) -> int:
        """Classes of training: identities."""
        return samples.num_classes

    def batches(self, samples: SampleTable, order: ShuffledBatches) -> ImageBatches:
        """Training batches of the images, in that order."""
        images = cast("Samples", samples)  # they come from `source`
        return ImageBatches(images, self.image, self.augmentation, order, self.workers)

    def prepared(self, inputs: Tensor) -> Tensor:
        """What the backbone takes, of a batch's `inputs` on its device: `normalise`."""
        return normalise(inputs)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent with a learning rate that is a function of the step."""

    learning_rate: float = 0.1
    """Peak learning rate, used as it stands: it is not scaled by the batch size."""
    momentum: float = 0.9
    """Momentum, in [0, 1)."""
    nesterov: bool = False
    """Nesterov's variant of the momentum."""
    weight_decay: float = 5e-4
    """L2 penalty on every parameter, prototypes included."""
    clip_norm: float = 5.0
    """Largest norm of the backbone's gradient; longer ones are shortened to it."""
    decay: Literal["linear", "cosine", "constant", "exponential"] = "linear"
    """Shape of the learning rate after warm-up."""
    final_learning_rate: float | None = None
    """Learning rate that the exponential decay reaches at the end, in (0, learning_rate]; of no other decay."""
    warmup: float = 0.0
    """Share of the steps during which the learning rate rises linearly from 0, in [0, 1)."""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        _above("optimizer.learning_rate", self.learning_rate, 0.0)
        _above("optimizer.clip_norm", self.clip_norm, 0.0)
        _in_range("optimizer.momentum", self.momentum, 0.0, 1.0)
        _in_range("optimizer.warmup", self.warmup, 0.0, 1.0)
        if not self.weight_decay >= 0.0:
            raise ValueError(f"optimizer.weight_decay must be >= 0, got {self.weight_decay}")
        if self.decay not in DECAYS:
            raise ValueError(f"optimizer.decay must be one of {sorted(DECAYS)}, got {self.decay!r}")
        if (self.decay == "exponential") != (self.final_learning_rate is not None):
            raise ValueError(
                "optimizer.final_learning_rate and the exponential decay go together: got "
                f"{self.final_learning_rate} with {self.decay!r}"
            )
        if self.final_learning_rate is not None and not 0.0 < self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"optimizer.final_learning_rate must be in (0, {self.learning_rate:g}], the learning rate, got "
                f"{self.final_learning_rate!r}"
            )
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("optimizer.nesterov needs a momentum > 0: set optimizer.momentum or switch nesterov off")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    recipe: Annotated[str, tyro.conf.Suppress]
    """Name of the recipe this setting was made from."""
    data: DataConfig | SpeechDataConfig
    """Images or speech, and identities."""
    backbone: IResNetConfig | MobileFaceNetConfig | EcapaConfig | SpeakerResNetConfig
    """Network from an image, or from features of speech, to its embedding."""
    loss: ScheduledLoss
    """The loss and its schedules: the one field in which compared runs differ."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The identities' prototypes: how their loss is computed and how they move."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights move."""
    epochs: int = 20
    """Passes over the training images; an incomplete last batch of a pass is left out."""
    max_steps: int | None = None
    """Steps after which the run ends, if its epochs have not ended before; the schedules then span these."""
    batch_size: int = 128
    """Images a step."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, augmentation and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Autocast of the backbone; weights, head and loss stay in float32."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """Threads of the CPU operators; None leaves torch's choice. Tiny networks are fastest with 1."""
    log_every: int = 10
    """Steps between two rows of the log."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; one is also written at the end and on Ctrl-C."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        for name in ("epochs", "log_every", "checkpoint_every"):
            _at_least(name, getattr(self, name), 1)
        _at_least("batch_size", self.batch_size, 2)  # batch norms need two
        _at_least("seed", self.seed, 0)
        for name in ("threads", "max_steps"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")
        if self.backbone.input_shape != self.data.input_shape:
            raise ValueError(
                f"the backbone takes {_described(self.backbone.input_shape)}, the data are "
                f"{_described(self.data.input_shape)}: set both to the same"
            )

    @property
    def image_data(self) -> DataConfig:
        """The data of a run on images; a ValueError where it is one on speech."""
        if isinstance(self.data, SpeechDataConfig):
            raise ValueError("this run was trained on speech, and images were asked for: give a run on images")
        return self.data


def _described(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"features of speech of {shape[0]} bins"
    return f"images of (channels, height, width) {shape}"


def _at_least(name: str, value: int, low: int) -> None:
    if not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")


def _above(name: str, value: float, low: float) -> None:
    if not low < value < float("inf"):
        raise ValueError(f"{name} must be a finite number > {low:g}, got {value!r}")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")
