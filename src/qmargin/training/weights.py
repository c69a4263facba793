"""Stored weights into modules, in place: compared first, copied after."""

from collections.abc import Collection, Iterable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from qmargin.training.parallel import fill
from qmargin.training.sharded_checkpoint import StoredRows
from qmargin.training.tensorfile import Stored

AnyStored = Stored | StoredRows
Copy = tuple[AnyStored, Tensor]  # from the file to the memory

EDITED = "was config.json edited?"


def load_weights(
    module: nn.Module, weights: Mapping[str, AnyStored], advice: str = EDITED, only: Collection[str] | None = None
) -> None:
    """Read the weights of an open checkpoint into a module, in place; with `only` those of these names.

    Raises:
        ValueError: the weights are another network's; the message names the first misfit, and nothing was changed.
    """
    copy_weights(fitting(module, weights, advice, only))


def fitting(
    module: nn.Module, weights: Mapping[str, AnyStored], advice: str = EDITED, only: Collection[str] | None = None
) -> list[Copy]:
    """Every stored tensor with the tensor of the module it belongs to; a ValueError names the first misfit."""
    check_fit(module, weights, advice, only)
    targets: dict[str, Tensor] = module.state_dict()
    return [(stored, targets[name]) for name, stored in weights.items() if only is None or name in only]


def check_fit(
    module: nn.Module,
    weights: Mapping[str, AnyStored | Tensor],
    advice: str = EDITED,
    only: Collection[str] | None = None,
) -> None:
    """Refuse weights of another network, or with `only` other weights of these names; `advice` ends the message."""
    targets: dict[str, Tensor] = module.state_dict()
    if only is not None:
        targets = {name: targets[name] for name in only}
        weights = {name: stored for name, stored in weights.items() if name in only}
    misfits = chain(
        (f"{name} is missing in it" for name in targets if name not in weights),
        (f"{name} is not in the network" for name in weights if name not in targets),
        (
            f"size or type mismatch for {name}: {kind(stored)} in the checkpoint, {kind(targets[name])} here"
            for name, stored in weights.items()
            if name in targets and kind(stored) != kind(targets[name])
        ),
    )
    for misfit in misfits:
        raise ValueError(f"the checkpoint does not fit the config's {type(module).__name__}: {misfit}; {advice}")


def kind(tensor: AnyStored | Tensor) -> str:
    """Shape and dtype, as errors show them."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


@torch.no_grad()
def copy_weights(copies: Iterable[Copy]) -> None:
    """Read each stored tensor into its place."""
    for stored, target in copies:
        if isinstance(target, DTensor):
            fill(target, stored.read())
        else:
            stored.copy_to(target)
