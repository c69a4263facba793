"""Everything that changes during a run, in one object that can be saved and restored bit for bit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from qmargin.heads import Head, ShardedHead
from qmargin.training.checkpoint import State
from qmargin.training.config import TrainConfig
from qmargin.training.ranks import World
from qmargin.training.sharded_checkpoint import StoredRows, as_sharded
from qmargin.training.tensorfile import Stored

Copy = tuple[Stored | StoredRows, Tensor]  # from the file to the memory


@dataclass
class TrainingState:
    """Backbone and head, each with its optimizer, and the number of steps done; generators are torch's own."""

    backbone: nn.Module
    head: Head
    optimizers: dict[str, torch.optim.Optimizer]  # "backbone" and "head"
    forward: Callable[[Tensor], Tensor]  # the backbone; of several processes, with gradients averaged over them
    step: int = 0

    @classmethod
    def create(cls, config: TrainConfig, num_classes: int, world: World | None = None) -> "TrainingState":
        """Fresh weights from the config's seed, the same for any number of processes."""
        world = world or World()
        check_device(config.device)
        torch.manual_seed(config.seed)
        backbone = config.backbone.build().to(config.device)
        head = config.head.build(
            num_classes, config.backbone.embedding_dim, config.loss.at(0.0), config.device, sharded=world.size > 1
        )
        settings = config.optimizer
        rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
        return cls(
            backbone,
            head,
            {
                "backbone": torch.optim.SGD(
                    backbone.parameters(), rate, momentum, weight_decay=decay, nesterov=settings.nesterov
                ),
                "head": head.make_optimizer(lr=rate, momentum=momentum, weight_decay=decay, nesterov=settings.nesterov),
            },
            world.parallel(backbone),
        )

    def set_learning_rate(self, rate: float) -> None:
        """The learning rate of the next step, of backbone and head."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def update(self) -> None:
        """Move all weights and count the step."""
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.step += 1

    def state_dict(self) -> State:
        """All of it, with every generator, as a tree for `save_checkpoint`; tensors are those in use, not copies."""
        head, slots = self.head.state_dict(), {name: _slots(optimizer) for name, optimizer in self.optimizers.items()}
        if isinstance(self.head, ShardedHead):
            head = as_sharded(head, self.head)
            slots["head"]["state"] = as_sharded(slots["head"]["state"], self.head)
        return {
            "step": self.step,
            "backbone": self.backbone.state_dict(),
            "head": head,
            "optimizers": slots,
            "generators": _generators(),
        }

    def load_state_dict(self, state: State) -> None:
        """Continue from the state of an open checkpoint: weights, momentum, step and generators, read in place.

        Everything is compared before the first number is overwritten; only a disk that fails while it is read leaves a
        state that is half one and half the other.

        Raises:
            ValueError: the state is of another network, head, number of identities, or version of qmargin.
        """
        if "optimizers" not in state:
            raise ValueError(
                "the checkpoint is of a qmargin that had one optimizer for backbone and head, and its momentum cannot "
                "be told apart: evaluate the run as it is, or train it anew into another folder"
            )
        copies = [*_fitting(self.backbone, state["backbone"]), *_fitting(self.head, state["head"])]
        slots = {
            name: _new_slots(optimizer, state["optimizers"][name], copies)
            for name, optimizer in self.optimizers.items()
        }
        _copy(copies)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict({"state": slots[name], "param_groups": state["optimizers"][name]["param_groups"]})
        self.step = state["step"]
        _restore_generators(state["generators"])


def load_weights(module: nn.Module, weights: State) -> None:
    """Read the weights of an open checkpoint into a module, in place.

    Raises:
        ValueError: the weights are another network's; the message names the first misfit, and nothing was changed.
    """
    _copy(_fitting(module, weights))


def _fitting(module: nn.Module, weights: Mapping[str, Stored | StoredRows]) -> list[Copy]:
    """Every stored tensor with the tensor of the module it belongs to."""
    targets: dict[str, Tensor] = module.state_dict()
    misfits = chain(
        (f"{name} is missing in it" for name in targets if name not in weights),
        (f"{name} is not in the network" for name in weights if name not in targets),
        (
            f"size or type mismatch for {name}: {_kind(stored)} in the checkpoint, {_kind(targets[name])} here"
            for name, stored in weights.items()
            if name in targets and _kind(stored) != _kind(targets[name])
        ),
    )
    for misfit in misfits:
        raise ValueError(
            f"the checkpoint does not fit the config's {type(module).__name__}: {misfit}; was config.json edited?"
        )
    return [(stored, targets[name]) for name, stored in weights.items()]


def _kind(tensor: Stored | StoredRows | Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


@torch.no_grad()
def _copy(copies: Iterable[Copy]) -> None:
    for stored, target in copies:
        stored.copy_to(target)


def _slots(optimizer: torch.optim.Optimizer) -> State:
    """The state of an optimizer with text for keys, as JSON wants them."""
    state = optimizer.state_dict()
    return {
        "state": {str(index): slot for index, slot in state["state"].items()},
        "param_groups": state["param_groups"],
    }


def _new_slots(optimizer: torch.optim.Optimizer, state: State, copies: list[Copy]) -> dict[int, dict[str, Any]]:
    """The slots of a stored state, with fresh tensors on their parameters' devices, which join `copies`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Any]] = {}
    for index, stored_slot in state["state"].items():
        parameter = parameters[int(index)]
        slots[int(index)] = slot = dict(stored_slot)
        for name, stored in stored_slot.items():
            if isinstance(stored, Stored | StoredRows):
                if stored.shape != tuple(
                    parameter.shape[: len(stored.shape)]
                ):  # one number for each weight, row or all
                    raise ValueError(
                        f"the checkpoint does not fit the optimizer: its {name} is {_kind(stored)}, for a weight "
                        f"{_kind(parameter)}; was config.json edited?"
                    )
                slot[name] = torch.empty(stored.shape, dtype=stored.dtype, device=parameter.device)
                copies.append((stored, slot[name]))
    return slots


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
    torch.set_rng_state(generators["cpu"].read())
    if torch.cuda.is_initialized() and generators["cuda"]:
        if len(generators["cuda"]) != torch.cuda.device_count():
            raise ValueError(
                f"the checkpoint holds the generators of {len(generators['cuda'])} CUDA devices, here are "
                f"{torch.cuda.device_count()}: make as many visible to continue with the same numbers"
            )
        torch.cuda.set_rng_state_all([generator.read() for generator in generators["cuda"]])
