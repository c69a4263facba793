"""Face recipes: the de-facto one, and two that train on a laptop."""

from pathlib import Path

from qmargin.backbones import IResNetConfig
from qmargin.data import Augmentation, ImageFolders, ImageFormat, ManifestFile, OrlFaces
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.recipes.losses import LARGE, ORL, SMALL, default_of
from qmargin.training import DataConfig, OptimizerConfig, TrainConfig

PUBLISHED_SCALE = 64.0  # of the losses that arcface_torch's learning rate is for


def faces(loss: ScheduledLoss | None = None) -> TrainConfig:
    """IResNet-50 on 112x112 crops as arcface_torch trains it on one device: image folders, 20 epochs, linear decay."""
    return TrainConfig(
        recipe="faces",
        data=DataConfig(
            source=ImageFolders(train=Path("train"), test=Path("test")),
            image=ImageFormat(height=112, width=112, channels=3, fit="exact"),
            augmentation=Augmentation(),
        ),
        backbone=IResNetConfig(depth=50, embedding_dim=512),
        loss=loss or default_of(LARGE),
        optimizer=OptimizerConfig(
            learning_rate=0.02, as_of_scale=PUBLISHED_SCALE, momentum=0.9, weight_decay=5e-4, clip_norm=5.0
        ),
        epochs=20,
        batch_size=128,
        precision="bfloat16",
        log_every=50,
        checkpoint_every=2000,
    )


def faces_small(loss: ScheduledLoss | None = None) -> TrainConfig:
    """A narrow IResNet-18 on the crops of a manifest file, made 40x40: for a CPU and some 25,000 images."""
    return TrainConfig(
        recipe="faces-small",
        data=DataConfig(
            source=ManifestFile(path=Path("manifest.csv")),
            image=ImageFormat(height=40, width=40, channels=3, fit="resize"),
            augmentation=Augmentation(shift=2.0),
        ),
        backbone=IResNetConfig(depth=18, width=16, embedding_dim=128, height=40, input_width=40),
        loss=loss or default_of(SMALL),
        head=HeadConfig(measure="probability"),
        optimizer=OptimizerConfig(learning_rate=1.0, as_of_scale=1.0, momentum=0.9, weight_decay=5e-4, warmup=0.05),
        epochs=20,
        batch_size=128,
        log_every=20,
        checkpoint_every=200,
    )


def faces_orl(loss: ScheduledLoss | None = None) -> TrainConfig:
    """The demo: a tiny IResNet on the 40 people of the AT&T/ORL faces: 30 to train on, 10 others to verify."""
    return TrainConfig(
        recipe="faces-orl",
        data=DataConfig(
            source=OrlFaces(test_identities=10),
            image=ImageFormat(height=28, width=23, channels=1, fit="resize"),
            augmentation=Augmentation(shift=1.5, rotation=8.0, scale=0.08, brightness=0.15, contrast=0.15),
        ),
        backbone=IResNetConfig(blocks=(1, 1, 1, 1), width=16, embedding_dim=64, height=28, input_width=23, channels=1),
        loss=loss or default_of(ORL),
        optimizer=OptimizerConfig(learning_rate=0.1, momentum=0.9, weight_decay=5e-3, warmup=0.1, decay="cosine"),
        epochs=60,
        batch_size=50,
        threads=1,
        log_every=5,
        checkpoint_every=60,
    )
