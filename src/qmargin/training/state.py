"""Everything that changes during a run, in one object that can be saved and restored bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from qmargin.heads import Head, ShardedHead
from qmargin.training.averaging import averaged_model
from qmargin.training.checkpoint import State
from qmargin.training.config import TrainConfig
from qmargin.training.parallel import gathered
from qmargin.training.ranks import ALONE, World
from qmargin.training.sharded_checkpoint import StoredRows, as_sharded
from qmargin.training.tensorfile import Stored
from qmargin.training.weights import EDITED, Copy, copy_weights, fitting, kind


@dataclass
class TrainingState:
    """Backbone and head, each with its optimizer, and the number of steps done; generators are torch's own."""

    backbone: nn.Module
    head: Head
    optimizers: dict[str, torch.optim.Optimizer]  # "backbone" and "head"
    factors: dict[str, float]  # of each optimizer's learning rate
    scaler: torch.amp.GradScaler  # of the loss; passes it through unless training is in float16
    forward: Callable[[Tensor], Tensor]  # the backbone, compiled where asked for, its gradients averaged over the ranks
    average: AveragedModel | None = None  # mean of the backbone's weights
    controlled: float | None = None  # value of the loss's field that its support controls
    step: int = 0

    @classmethod
    def create(
        cls, config: TrainConfig, num_classes: int, counts: Tensor | None = None, world: World = ALONE
    ) -> "TrainingState":
        """Fresh weights from the config's seed, the same in any world; `counts` (classes,): images of each identity."""
        check_device(config.device)
        torch.manual_seed(config.seed)
        backbone = config.backbone.build().to(config.device)
        if config.channels_last:
            backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
        first, dim = config.loss.at(0.0), config.backbone.embedding_dim
        head = config.head.build(num_classes, dim, first, config.device, counts, sharded=world.size > 1)
        average = averaged_model(backbone, config.averaging)  # a backbone that is shared out cannot be copied
        forward = world.parallel(backbone, config.parallel, compiled=config.compile)
        if average is not None:
            world.share_out(average.module, config.parallel)
        settings = config.optimizer
        rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
        factors = {"backbone": 1.0, "head": settings.head_learning_rate_factor}
        return cls(
            backbone,
            head,
            {
                "backbone": torch.optim.SGD(
                    backbone.parameters(), rate, momentum, weight_decay=decay, nesterov=settings.nesterov
                ),
                "head": head.make_optimizer(
                    lr=rate * factors["head"],
                    momentum=momentum,
                    weight_decay=decay * settings.head_weight_decay_factor,
                    nesterov=settings.nesterov,
                ),
            },
            factors,
            world.scaler(config.device, enabled=config.precision == "float16"),
            forward,
            average,
            None if config.loss.support is None else config.loss.support.initial(config.loss.final),
        )

    @property
    def evaluated(self) -> nn.Module:
        """The network that is judged: the mean of the weights once there is one, else the backbone."""
        if self.average is None or int(self.average.n_averaged) == 0:
            return self.backbone
        return self.average.module

    def set_learning_rate(self, rate: float) -> None:
        """The learning rate of the next step, of the backbone; the head's is its factor times as large."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * self.factors[name]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def update(self, *, overflow: bool = False) -> None:
        """Move all weights and count the step; after an overflow in float16 none is moved, and the loss scaled less."""
        if not overflow:  # asked once for all: the scaler would move the optimizer whose own gradient is finite
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
        self.scaler.update()
        self.step += 1

    def state_dict(self) -> State:
        """All of it, with every generator, as a tree for a checkpoint; tensors are those in use, not copies.

        Of a backbone that is shared out rank 0 has all, the others nothing: files are those of any other training.
        """
        head, slots = self.head.state_dict(), {name: _slots(optimizer) for name, optimizer in self.optimizers.items()}
        slots["backbone"]["state"] = gathered(slots["backbone"]["state"])
        if isinstance(self.head, ShardedHead):
            head = as_sharded(head, self.head)
            slots["head"]["state"] = as_sharded(slots["head"]["state"], self.head)
        return {
            "step": self.step,
            "backbone": gathered(self.backbone.state_dict()),
            "head": head,
            "optimizers": slots,
            "scaler": self.scaler.state_dict(),
            "controlled": self.controlled,
            **self._averaged(),
            "generators": _generators(),
        }

    def _averaged(self) -> State:
        """The mean of the weights, once there is one: `average` is what is evaluated."""
        if self.average is None or int(self.average.n_averaged) == 0:
            return {}
        return {"average": gathered(self.average.module.state_dict()), "averaged": int(self.average.n_averaged)}

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
        copies = [*fitting(self.backbone, state["backbone"]), *fitting(self.head, state["head"])]
        if self.average is not None and "average" in state:
            copies += fitting(self.average.module, state["average"])
        slots = {
            name: _new_slots(optimizer, state["optimizers"][name], copies)
            for name, optimizer in self.optimizers.items()
        }
        copy_weights(copies)
        for name, optimizer in self.optimizers.items():
            groups = _settings(optimizer, state["optimizers"][name]["param_groups"])
            optimizer.load_state_dict({"state": slots[name], "param_groups": groups})
        if self.average is not None:
            self.average.n_averaged.fill_(state.get("averaged", 0))
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.controlled = state.get("controlled", self.controlled)
        self.step = state["step"]
        _restore_generators(state["generators"])


def _settings(optimizer: torch.optim.Optimizer, stored: list[State]) -> list[State]:
    """The stored settings of an optimizer's groups that it knows: of one rank and of several they are two classes."""
    own = optimizer.state_dict()["param_groups"]
    return [
        {name: saved.get(name, value) for name, value in group.items()}
        for group, saved in zip(own, stored, strict=True)
    ]


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
                        f"the checkpoint does not fit the optimizer: its {name} is {kind(stored)}, for a weight "
                        f"{kind(parameter)}; {EDITED}"
                    )
                slot[name] = (
                    torch.empty_like(parameter)
                    if isinstance(parameter, DTensor)
                    else torch.empty(stored.shape, dtype=stored.dtype, device=parameter.device)
                )
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
