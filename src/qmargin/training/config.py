"""The whole setting of a training run: frozen, keyword-only, validated; what is saved is what ran.

Nothing rewrites a setting after loading. A recipe (`qmargin.recipes`) is a function that returns a `TrainConfig`; the
command line replaces single fields of it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import numpy as np
import tyro
from numpy.typing import NDArray
from torch import Tensor

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, IResNetConfig, MobileFaceNetConfig, SpeakerResNetConfig
from qmargin.data import (
    Augmentation,
    ImageBatches,
    ImageFolders,
    ImageFormat,
    ManifestFile,
    OrlFaces,
    RecordFile,
    Samples,
    ShuffledBatches,
    SyntheticIdentities,
    TarShards,
    normalise,
)
from qmargin.data.sample_table import SampleTable
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.training._checks import above, at_least, in_range
from qmargin.training.options import AveragingConfig, ValidationConfig
from qmargin.training.parallel import Parallel
from qmargin.training.schedule import DECAYS
from qmargin.training.speech_data import SpeechDataConfig

Precision = Literal["float32", "bfloat16", "float16"]


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
    class_balance: float = 0.0
    """How evenly identities are drawn: 0 each image once an epoch, 1 each identity as often; see `BalancedBatches`."""
    expected_identities: int | None = None
    """Training identities that the source must have, before any is held out; None for any number."""
    expected_images: int | None = None
    """Training images that the source must have, likewise."""
    workers: int = 2
    """Threads, or processes, that decode images."""
    processes: bool = False
    """Decode in processes instead of threads: the same pixels, and the interpreter is left to the training."""
    keep_decoded: bool = False
    """Decode each training image once and keep it in memory (images x height x width x channels bytes); by threads."""

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        if not 0.0 <= self.class_balance <= 1.0:
            raise ValueError(f"data.class_balance must be in [0, 1], got {self.class_balance!r}")
        at_least("data.validation_identities", self.validation_identities, 0)
        at_least("data.workers", self.workers, 1)
        if self.keep_decoded and self.processes:
            raise ValueError("data.keep_decoded is for threads: with data.processes each would keep images of its own")
        for name in ("expected_identities", "expected_images"):
            if getattr(self, name) is not None:
                at_least(f"data.{name}", getattr(self, name), 1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the images."""
        return self.image.shape

    @property
    def expected(self) -> dict[str, int | None]:
        """Counts that the source must have, by the names in `expected_...`; None for any."""
        return {"images": self.expected_images, "identities": self.expected_identities}

    def class_counts(self, samples: SampleTable) -> NDArray[np.int64]:
        """Images of each class of training (classes,): of each identity."""
        return np.bincount(samples.labels, minlength=samples.num_classes)

    def batches(self, samples: SampleTable, order: ShuffledBatches) -> ImageBatches:
        """Training batches of the images, in that order."""
        images = cast("Samples", samples)  # they come from `source`
        return ImageBatches(
            images,
            self.image,
            self.augmentation,
            order,
            self.workers,
            processes=self.processes,
            keep_decoded=self.keep_decoded,
        )

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
    head_learning_rate_factor: float = 1.0
    """The prototypes' learning rate as a multiple of the backbone's, through the whole schedule."""
    head_weight_decay_factor: float = 1.0
    """The prototypes' weight decay as a multiple of `weight_decay`; 0 for none."""
    clip_norm: float = 5.0
    """Largest norm of the backbone's gradient; longer ones are shortened to it."""
    as_of_scale: float | None = None
    """Descend the loss as if its scale s were this one, L as_of_scale / s, whose gradient in the cosines is
    as_of_scale (p - e_y) whatever s is: a learning rate found at one scale suits others, and ramps of the scale do not
    change it. None descends L. Logs tell L itself."""
    decay: Literal["linear", "cosine", "constant", "exponential"] = "linear"
    """Shape of the learning rate after warm-up."""
    final_learning_rate: float | None = None
    """Learning rate that the exponential decay reaches at the end, in (0, learning_rate]; of no other decay."""
    warmup: float = 0.0
    """Share of the steps during which the learning rate rises linearly from 0, in [0, 1)."""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        above("optimizer.learning_rate", self.learning_rate, 0.0)
        above("optimizer.head_learning_rate_factor", self.head_learning_rate_factor, 0.0)
        above("optimizer.clip_norm", self.clip_norm, 0.0)
        in_range("optimizer.momentum", self.momentum, 0.0, 1.0)
        in_range("optimizer.warmup", self.warmup, 0.0, 1.0)
        if self.as_of_scale is not None:
            above("optimizer.as_of_scale", self.as_of_scale, 0.0)
        for name in ("weight_decay", "head_weight_decay_factor"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"optimizer.{name} must be >= 0, got {getattr(self, name)}")
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
    backbone: IResNetConfig | MobileFaceNetConfig | EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig
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
    gradient_accumulation: int = 1
    """Equal parts that a step's images are computed in, one after the other, to save memory; gradients are averaged."""
    init_from: Path | None = None
    """Where the backbone's first weights are from: a run's folder, a model file (.safetensors) or arcface_torch's
    backbone.pth; the number of identities may differ. None draws them from the seed."""
    init_head: bool = False
    """Take the prototypes of the run in `init_from` too: the same identities."""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """Mean of the weights that is evaluated."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Figures during training, the best weights, and early stopping."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, augmentation and dropout."""
    precision: Precision = "float32"
    """Autocast of the backbone; weights, head and loss stay in float32. float16 scales the loss (torch.amp.GradScaler)
    and leaves out steps whose gradient overflows."""
    parallel: Parallel = "ddp"
    """How the ranks of a training by several processes hold the backbone: ddp, whole on each, or fsdp, its weights,
    gradients and momentum shared out. One process holds all of it with either; prototypes are always shared out."""
    compile: bool = False
    """Compile the backbone (torch.compile): slow to start, faster steps; needs a C++ compiler."""
    channels_last: bool = False
    """Keep images and weights in the order of their pixels: faster convolutions on CUDA; refused elsewhere."""
    device: str = "cpu"
    """Where to train: cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """Threads of the CPU operators; None leaves torch's choice. Tiny networks are fastest with 1."""
    log_every: int = 10
    """Steps between two rows of the log."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; one is also written at the end and on Ctrl-C."""
    checkpoint_in_background: bool = False
    """Write checkpoints from a copy in the CPU's memory while training goes on; the next one waits for the last."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        for name in ("epochs", "log_every", "checkpoint_every"):
            at_least(name, getattr(self, name), 1)
        at_least("batch_size", self.batch_size, 2)  # batch norms need two
        at_least("seed", self.seed, 0)
        for name in ("threads", "max_steps"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        at_least("gradient_accumulation", self.gradient_accumulation, 1)
        parts = self.gradient_accumulation
        if self.batch_size % parts or self.batch_size // parts < 2:
            raise ValueError(
                "gradient_accumulation must cut a step's images into equal parts of at least 2 (batch norms need two): "
                f"got {parts} parts of batch_size {self.batch_size}"
            )
        for name, known in (("precision", Precision), ("parallel", Parallel)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        self._check_network()
        if self.init_head and self.init_from is None:
            raise ValueError("init_head takes the prototypes of the run in init_from: name that run")
        if self.averaging.last is not None and self.validation.patience is not None:
            raise ValueError(
                "averaging.last is the mean of the last steps of a run whose end is known, validation.patience ends it "
                "early: take averaging.ema, or train to the end"
            )
        self._check_kind()

    def _check_network(self) -> None:
        """Refuse an order of pixels where it does not work."""
        if self.channels_last and not self.device.startswith("cuda"):
            raise ValueError(
                f"channels_last is for CUDA, got device {self.device!r}: on a CPU oneDNN crashes in the backward of "
                "narrow strided convolutions in that order; leave it off"
            )
        if self.channels_last and self.parallel == "fsdp":
            raise ValueError(
                "parallel fsdp shares out weights in row-major order, channels_last has them in the order of pixels: "
                "leave one of them off"
            )

    def _check_kind(self) -> None:
        """Refuse a backbone for other data, and for speech what is of images."""
        if isinstance(self.data, SpeechDataConfig):
            if self.channels_last:
                raise ValueError("channels_last is an order of pixels: leave it off for speech")
            if self.validation.bins:
                raise ValueError(
                    "validation.bins are pairs of images: for speech, hold out speakers with data.validation_identities"
                )
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

    @property
    def speech_data(self) -> SpeechDataConfig:
        """The data of a run on speech; a ValueError where it is one on images."""
        if isinstance(self.data, DataConfig):
            raise ValueError("this run was trained on images, and recordings were asked for: give a run on speech")
        return self.data

    @property
    def image_backbone(self) -> IResNetConfig | MobileFaceNetConfig:
        """The backbone of a run on images; a ValueError where it is one on speech."""
        if isinstance(self.backbone, EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig):
            raise ValueError("this run was trained on speech, and a backbone of images was asked for")
        return self.backbone

    @property
    def speech_backbone(self) -> EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig:
        """The backbone of a run on speech; a ValueError where it is one on images."""
        if isinstance(self.backbone, IResNetConfig | MobileFaceNetConfig):
            raise ValueError("this run was trained on images, and a backbone of speech was asked for")
        return self.backbone


def _described(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"features of speech of {shape[0]} bins"
    return f"images of (channels, height, width) {shape}"
