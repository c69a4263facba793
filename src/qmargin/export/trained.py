"""The trained network of a run, with what a file of it has to say."""

from typing import NamedTuple

from torch import nn

from qmargin.scoring.embed import trained_backbone
from qmargin.training import RunFolder
from qmargin.training.model_file import ModelConfig


class TrainedModel(NamedTuple):
    """A run's backbone, its newest weights."""

    config: ModelConfig
    network: nn.Module  # in evaluation mode, on the CPU


def read_trained(run: RunFolder) -> TrainedModel:
    """The backbone of a run with its newest weights, those that `qmargin evaluate` judges.

    Raises:
        ValueError: the folder is no run, or has no checkpoint.
    """
    model = trained_backbone(run, "cpu")
    config = ModelConfig(
        backbone=model.config.image_backbone,
        image=model.config.image_data.image,
        source=f"qmargin recipe {model.config.recipe}, loss {model.config.loss.name}, seed {model.config.seed}",
        step=model.origin["step"],
    )
    return TrainedModel(config, model.backbone)
