"""Everything that changes during a run, in one object that can be saved and restored bit for bit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qmargin.heads import DenseHead, Head
from qmargin.training.checkpoint import State
from qmargin.training.config import TrainConfig


@dataclass
class TrainingState:
    """Backbone, head, optimizer, and the number of steps done; generators are torch's own."""

    backbone: nn.Module
    head: Head
    optimizer: torch.optim.SGD
    step: int = 0

    @classmethod
    def create(cls, config: TrainConfig, num_classes: int) -> "TrainingState":
        """Fresh weights from the config's seed."""
        check_device(config.device)
        torch.manual_seed(config.seed)
        backbone = config.backbone.build().to(config.device)
        head = DenseHead(num_classes, config.backbone.embedding_dim, config.loss.at(0.0), device=config.device)
        settings = config.optimizer
        optimizer = torch.optim.SGD(
            [*backbone.parameters(), *head.parameters()],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
        return cls(backbone, head, optimizer)

    def state_dict(self) -> State:
        """All of it, with every generator, as a tree for `save_checkpoint`."""
        optimizer = self.optimizer.state_dict()
        return {
            "step": self.step,
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": {
                "state": {str(index): slot for index, slot in optimizer["state"].items()},
                "param_groups": optimizer["param_groups"],
            },
            "generators": _generators(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from a state: weights, momentum, step and generators."""
        load_weights(self.backbone, state["backbone"])
        load_weights(self.head, state["head"])
        slots = {int(index): slot for index, slot in state["optimizer"]["state"].items()}
        self.optimizer.load_state_dict({"state": slots, "param_groups": state["optimizer"]["param_groups"]})
        self.step = state["step"]
        _restore_generators(state["generators"])


def load_weights(module: nn.Module, weights: State) -> None:
    """Load weights into a module; a ValueError with the first misfit where they are another network's."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1 if "\n" in str(error) else 0].strip()
        raise ValueError(
            f"the checkpoint does not fit the config's {type(module).__name__}: {first}; was config.json edited?"
        ) from error


def check_device(device: str) -> None:
    """Refuse a device that torch cannot compute on here."""
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"cannot compute on device {device!r}: {reason}; --device cpu works everywhere") from error


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_generators(generators: dict[str, Any]) -> None:
    torch.set_rng_state(generators["cpu"].cpu())
    if torch.cuda.is_initialized() and generators["cuda"]:
        if len(generators["cuda"]) != torch.cuda.device_count():
            raise ValueError(
                f"the checkpoint holds the generators of {len(generators['cuda'])} CUDA devices, here are "
                f"{torch.cuda.device_count()}: make as many visible to continue with the same numbers"
            )
        torch.cuda.set_rng_state_all([generator.cpu() for generator in generators["cuda"]])
