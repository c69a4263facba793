"""The trained network of a run, with what a file of it has to say."""

from typing import NamedTuple

from torch import nn

from qmargin.scoring.runs import Weights, trained_backbone
from qmargin.training import RunFolder
from qmargin.training.model_config import AnyModelConfig
from qmargin.training.model_file import model_config


class TrainedModel(NamedTuple):
    """A run's backbone with its newest weights, or its best ones."""

    config: AnyModelConfig
    network: nn.Module  # in evaluation mode, on the CPU


def read_trained(run: RunFolder, *, weights: Weights = "newest") -> TrainedModel:
    """The backbone of a run, as `qmargin evaluate` judges it.

    Args:
        run: folder of the run.
        weights: "newest", those of its last checkpoint, or "best", those of its best validation.

    Raises:
        ValueError: the folder is no run, or has no such weights.
    """
    model = trained_backbone(run, "cpu", weights=weights)
    config = model.config
    kept = f", best {config.validation.watch}" if weights == "best" else ""
    source = f"qmargin recipe {config.recipe}, loss {config.loss.name}, seed {config.seed}{kept}"
    return TrainedModel(model_config(model.config, source, model.origin["step"]), model.backbone)
