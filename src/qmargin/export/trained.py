"""The trained network of a run, with what a file of it has to say."""

from typing import NamedTuple

from torch import nn

from qmargin.scoring.embed import trained_backbone
from qmargin.training import RunFolder
from qmargin.training.model_config import AnyModelConfig
from qmargin.training.model_file import model_config


class TrainedModel(NamedTuple):
    """A run's backbone, its newest weights."""

    config: AnyModelConfig
    network: nn.Module  # in evaluation mode, on the CPU


def read_trained(run: RunFolder) -> TrainedModel:
    """The backbone of a run with its newest weights, those that `qmargin evaluate` judges.

    Raises:
        ValueError: the folder is no run, or has no checkpoint.
    """
    model = trained_backbone(run, "cpu")
    source = f"qmargin recipe {model.config.recipe}, loss {model.config.loss.name}, seed {model.config.seed}"
    return TrainedModel(model_config(model.config, source, model.origin["step"]), model.backbone)
