"""Speaker recipes: the two of WeSpeaker's VoxCeleb2 training, their fine-tuning, and one that trains on a laptop."""

from dataclasses import replace
from pathlib import Path

from qmargin.backbones import EcapaConfig, SpeakerResNetConfig
from qmargin.data.speech import (
    FrontEnd,
    RecordedNoise,
    SpeakerFolders,
    SpecAugment,
    SpeechAugmentation,
    SpeechTable,
    SyntheticNoise,
)
from qmargin.heads import HeadConfig
from qmargin.losses import ScheduledLoss
from qmargin.recipes.losses import SPEAKERS, SPEAKERS_LARGE_MARGIN, VOICES, default_of
from qmargin.training import AveragingConfig, OptimizerConfig, SpeechDataConfig, TrainConfig

SPEEDS = (1.0, 0.9, 1.1)
EPOCHS = 150
WARMUP_EPOCHS = 6
# WeSpeaker's rate is warm-up x 0.1 x (5e-5 / 0.1)^(share done) x (images a step / 64): at 256 a step and the end of
# warm-up 0.4 x 5e-4^(6/150) = 0.295, and 4 x 5e-5 in the end. Here the rates are written as they are used.
PEAK, LAST = 0.295, 2e-4
PUBLISHED_SCALE = 32.0  # of the losses that these rates are for
TUNING_EPOCHS = 5
# 1e-4 to 2.5e-5 in five epochs, one of warm-up, times 128 / 64: 2e-4 x 0.25^(1/5) at its end
TUNING_PEAK, TUNING_LAST = 1.52e-4, 5e-5


def voxceleb_resnet34(loss: ScheduledLoss | None = None) -> TrainConfig:
    """ResNet34-TSTP on VoxCeleb2 dev as WeSpeaker trains it: speeds as new speakers, MUSAN and rooms, 150 epochs."""
    return _voxceleb("voxceleb-resnet34", SpeakerResNetConfig(embedding_dim=256), loss)


def voxceleb_ecapa1024(loss: ScheduledLoss | None = None) -> TrainConfig:
    """ECAPA-TDNN of 1024 channels on VoxCeleb2 dev as WeSpeaker trains it; the same schedule as voxceleb-resnet34."""
    return _voxceleb("voxceleb-ecapa1024", EcapaConfig(channels=1024, embedding_dim=192), loss)


def voxceleb_resnet34_large_margin(loss: ScheduledLoss | None = None) -> TrainConfig:
    """Large-margin fine-tuning of a voxceleb-resnet34 run: 5 epochs of 6 s segments with a larger margin."""
    return _large_margin(voxceleb_resnet34(loss or default_of(SPEAKERS_LARGE_MARGIN)))


def voxceleb_ecapa1024_large_margin(loss: ScheduledLoss | None = None) -> TrainConfig:
    """Large-margin fine-tuning of a voxceleb-ecapa1024 run: 5 epochs of 6 s segments with a larger margin."""
    return _large_margin(voxceleb_ecapa1024(loss or default_of(SPEAKERS_LARGE_MARGIN)))


def speakers_small(loss: ScheduledLoss | None = None) -> TrainConfig:
    """A narrow ECAPA-TDNN on the recordings of a CSV file, with made-up noise: for a CPU and some 3,000 utterances."""
    return TrainConfig(
        recipe="speakers-small",
        data=SpeechDataConfig(
            source=SpeechTable(path=Path("manifest.csv"), train=("train", "extra")),
            front_end=FrontEnd.wespeaker(),
            frames=120,
            augmentation=SpeechAugmentation(speeds=SPEEDS, noise=SyntheticNoise(rooms=0), masks=SpecAugment()),
        ),
        backbone=EcapaConfig(
            channels=128, pooled=384, bottleneck=64, embedding_dim=128, global_context=False, stride=3
        ),
        loss=loss or default_of(VOICES),
        head=HeadConfig(measure="probability"),
        optimizer=OptimizerConfig(
            learning_rate=0.25,  # benchmarks/speakers_small.py: of 0.25, 0.5, 1; for some losses 0.5 is as good
            as_of_scale=1.0,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            warmup=0.1,
            decay="cosine",
        ),
        epochs=20,
        batch_size=32,
        threads=1,
        log_every=20,
        checkpoint_every=200,
    )


def _voxceleb(name: str, backbone: EcapaConfig | SpeakerResNetConfig, loss: ScheduledLoss | None) -> TrainConfig:
    return TrainConfig(
        recipe=name,
        data=SpeechDataConfig(
            source=SpeakerFolders(train=Path("voxceleb2/dev/wav")),
            front_end=FrontEnd.wespeaker(),
            frames=200,
            augmentation=SpeechAugmentation(
                speeds=SPEEDS,
                noise=RecordedNoise(musan=Path("musan"), impulse_responses=Path("simulated_rirs")),
                noise_probability=0.6,
            ),
            workers=8,
        ),
        backbone=backbone,
        loss=loss or default_of(SPEAKERS),
        optimizer=OptimizerConfig(
            learning_rate=PEAK,
            as_of_scale=PUBLISHED_SCALE,
            final_learning_rate=LAST,
            decay="exponential",
            warmup=WARMUP_EPOCHS / EPOCHS,
            momentum=0.9,
            nesterov=True,
            weight_decay=1e-4,
        ),
        averaging=AveragingConfig(last=10, every=None),
        epochs=EPOCHS,
        batch_size=256,
        log_every=50,
        checkpoint_every=4000,
    )


def _large_margin(base: TrainConfig) -> TrainConfig:
    """The second stage of a recipe, from a run of it; the larger margin is the loss's."""
    return replace(
        base,
        recipe=f"{base.recipe}-large-margin",
        data=replace(base.speech_data, frames=600),
        optimizer=replace(
            base.optimizer, learning_rate=TUNING_PEAK, final_learning_rate=TUNING_LAST, warmup=1 / TUNING_EPOCHS
        ),
        averaging=AveragingConfig(),
        epochs=TUNING_EPOCHS,
        batch_size=128,
        init_from=Path("runs") / base.recipe,
        init_head=True,
    )
