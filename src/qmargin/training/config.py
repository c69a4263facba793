"""The whole setting of a training run: frozen, keyword-only, validated; what is saved is what ran.

Nothing rewrites a setting after loading. A recipe (`qmargin.recipes`) is a function that returns a `TrainConfig`; the
command line replaces single fields of it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from qmargin.backbones import IResNetConfig, MobileFaceNetConfig
from qmargin.data import (
    Augmentation,
    ImageFolders,
    ImageFormat,
    ManifestFile,
    OrlFaces,
    RecordFile,
    SyntheticIdentities,
    TarShards,
)
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.training.schedule import DECAYS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it is decoded and augmented, and which identities are held out."""

    source: OrlFaces | ImageFolders | ManifestFile | RecordFile | TarShards | SyntheticIdentities
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
    """Threads, or processes, that decode images."""
    processes: bool = False
    """Decode in processes instead of threads: the same pixels, and the interpreter is left to the training."""

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        _at_least("data.validation_identities", self.validation_identities, 0)
        _at_least("data.workers", self.workers, 1)


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
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after warm-up."""
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
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("optimizer.nesterov needs a momentum > 0: set optimizer.momentum or switch nesterov off")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    recipe: Annotated[str, tyro.conf.Suppress]
    """Name of the recipe this setting was made from."""
    data: DataConfig
    """Images and identities."""
    backbone: IResNetConfig | MobileFaceNetConfig
    """Network from an image to its embedding."""
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
        if self.backbone.input_shape != self.data.image.shape:
            raise ValueError(
                f"the backbone takes images of (channels, height, width) {self.backbone.input_shape}, data.image "
                f"delivers {self.data.image.shape}: set both to the same size"
            )


def _at_least(name: str, value: int, low: int) -> None:
    if not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")


def _above(name: str, value: float, low: float) -> None:
    if not low < value < float("inf"):
        raise ValueError(f"{name} must be a finite number > {low:g}, got {value!r}")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")
