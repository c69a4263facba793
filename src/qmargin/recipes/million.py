"""A million identities on a small machine: the whole training loop on synthetic images, with the streaming head."""

from qmargin.backbones import IResNetConfig
from qmargin.data import Augmentation, ImageFormat, SyntheticIdentities
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.recipes.losses import MILLION, default_of
from qmargin.training import DataConfig, OptimizerConfig, TrainConfig


def million(loss: ScheduledLoss | None = None) -> TrainConfig:
    """A tiny IResNet and 1,000,000 synthetic identities: 1000 steps in minutes on two cores, in two gigabytes."""
    return TrainConfig(
        recipe="million",
        data=DataConfig(
            source=SyntheticIdentities(identities=1_000_000, samples=2_000_000, test_identities=100),
            image=ImageFormat(height=16, width=16, channels=1),
            augmentation=Augmentation(flip=0.0),  # a mirrored pattern is another identity
        ),
        backbone=IResNetConfig(blocks=(1, 1, 1, 1), width=16, embedding_dim=128, height=16, input_width=16, channels=1),
        loss=loss or default_of(MILLION),
        head=HeadConfig(kind="streaming", update="lazy"),
        optimizer=OptimizerConfig(learning_rate=0.1, momentum=0.9, weight_decay=5e-4, warmup=0.05),
        epochs=1,
        max_steps=1000,
        batch_size=128,
        log_every=20,
        checkpoint_every=250,
    )
