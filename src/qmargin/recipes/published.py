"""The recipes of arcface_torch as a table: every set of faces times every network; all else is one setting.

Batch 1,024 at learning rate 0.1, falling linearly to 0 over 20 epochs, momentum 0.9, gradients clipped at norm 5,
prototypes from normal(0, 0.01). Eight devices with 128 images each become eight parts of 128 images on one device: as
there, batch norms see 128. Losses of another scale than arcface_torch's 64 are descended as if they had it, or its
learning rate would be another one for them. Two recipes of one set differ in the backbone alone, two of one network in
the set and, for Glint360K, in its weight decay.
"""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from qmargin.backbones import IResNetConfig, MobileFaceNetConfig
from qmargin.data import Augmentation, ImageFormat, RecordFile
from qmargin.losses import ScheduledLoss
from qmargin.recipes.faces import PUBLISHED_SCALE
from qmargin.recipes.losses import GLINT, LARGE, default_of
from qmargin.training import DataConfig, OptimizerConfig, TrainConfig, ValidationConfig

Network = IResNetConfig | MobileFaceNetConfig

VALIDATION = ("lfw", "cfp_fp", "agedb_30")  # `.bin` sets that lie beside the training images, as the sets are shipped


@dataclass(frozen=True, kw_only=True)
class FaceSet:
    """A public training set: its size, by which a damaged or other copy is refused, its weight decay and losses."""

    title: str
    identities: int
    images: int
    weight_decay: float = 5e-4
    losses: dict[str, ScheduledLoss] = field(default_factory=lambda: LARGE)


FACE_SETS = {
    "ms1mv2": FaceSet(title="MS1MV2", identities=85_742, images=5_822_653),
    "ms1mv3": FaceSet(title="MS1MV3", identities=93_431, images=5_179_510),
    "glint360k": FaceSet(title="Glint360K", identities=360_232, images=17_091_657, weight_decay=1e-4, losses=GLINT),
    "webface4m": FaceSet(title="WebFace4M", identities=205_990, images=4_235_242, losses=GLINT),
    "webface12m": FaceSet(title="WebFace12M", identities=617_970, images=12_720_066, losses=GLINT),
}
NETWORKS: dict[str, Network] = {
    "r18": IResNetConfig(depth=18),
    "r34": IResNetConfig(depth=34),
    "r50": IResNetConfig(depth=50),
    "r100": IResNetConfig(depth=100),
    "r200": IResNetConfig(depth=200),
    "mobilefacenet": MobileFaceNetConfig(embedding_dim=512),
}


@dataclass(frozen=True)
class PublishedRecipe:
    """A row of the table; calling it gives the whole config, with the first of its losses unless told another.

    Args:
        face_set: key of `FACE_SETS`.
        network: key of `NETWORKS`.

    Example:
        >>> recipe = PublishedRecipe("ms1mv3", "r50")
        >>> recipe.name, recipe().loss.name, recipe(recipe.losses["arcface"]).loss.name
        ('faces-ms1mv3-r50', 'qmargin', 'arcface')

    Reference: insightface, recognition/arcface_torch/configs and train_v2.py.
    """

    face_set: str
    network: str

    @property
    def name(self) -> str:
        """What the recipe is called, `faces-SET-NETWORK`."""
        return f"faces-{self.face_set}-{self.network}"

    @property
    def attribute(self) -> str:
        """Its name in Python, `faces_SET_NETWORK` of `qmargin.recipes`."""
        return self.name.replace("-", "_")

    @property
    def summary(self) -> str:
        """One line for lists of recipes."""
        chosen = FACE_SETS[self.face_set]
        settings = "with arcface_torch's settings"
        if isinstance(NETWORKS[self.network], MobileFaceNetConfig):  # arcface_torch's of that name is another network
            settings = f"the paper's network, {settings} for its own"
        return f"{self.network} on {chosen.title}, {chosen.identities:,} identities, {settings}."

    @property
    def losses(self) -> dict[str, ScheduledLoss]:
        """The losses with good settings for the set, by name."""
        return FACE_SETS[self.face_set].losses

    def __call__(self, loss: ScheduledLoss | None = None) -> TrainConfig:
        """The config with that loss, or with the first of `losses`."""
        chosen = FACE_SETS[self.face_set]
        folder = Path(self.face_set)
        return TrainConfig(
            recipe=self.name,
            data=DataConfig(
                source=RecordFile(path=folder / "train.rec"),
                image=ImageFormat(height=112, width=112, channels=3, fit="exact"),
                augmentation=Augmentation(),
                expected_identities=chosen.identities,
                expected_images=chosen.images,
                workers=8,
            ),
            backbone=NETWORKS[self.network],
            loss=loss or default_of(self.losses),
            optimizer=OptimizerConfig(
                learning_rate=0.1,
                as_of_scale=PUBLISHED_SCALE,
                momentum=0.9,
                weight_decay=chosen.weight_decay,
                clip_norm=5.0,
                decay="linear",
            ),
            validation=ValidationConfig(every=2000, bins=tuple(folder / f"{name}.bin" for name in VALIDATION)),
            epochs=20,
            batch_size=1024,
            gradient_accumulation=8,
            precision="bfloat16",
            log_every=50,
            checkpoint_every=2000,
        )


PUBLISHED = tuple(PublishedRecipe(*row) for row in product(FACE_SETS, NETWORKS))
