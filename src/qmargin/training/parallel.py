"""How several processes hold the backbone: whole on each (DDP), or its weights shared out over them (FSDP2)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from qmargin.heads.collectives import Group

Parallel = Literal["ddp", "fsdp"]


def share_out(module: nn.Module, ranks: Group) -> None:
    """Share the weights out over the ranks, in place: each keeps 1/W of every weight, its gradient and momentum.

    The weights of one part (a stage of the network) are gathered at a time, for as long as it computes; gradients are
    averaged over the ranks. Parameters become DTensors; `gathered` and `fill` lead out and in.
    """
    group = ranks.group or distributed.group.WORLD
    assert group is not None
    mesh = DeviceMesh.from_group(group, ranks.device.type)
    for part in module.children():
        if any(True for _ in part.parameters()) and not isinstance(part, nn.ModuleList | nn.ModuleDict):
            fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)


def exchanging(forward: Callable[[Tensor], Tensor], *, now: bool) -> AbstractContextManager[None]:
    """A forward and backward pass whose gradients DDP exchanges `now`, or adds up to exchange them with a later one's.

    FSDP exchanges those of every pass: a rank has no room for the whole.
    """
    if isinstance(forward, DistributedDataParallel) and not now:
        waiting: AbstractContextManager[None] = forward.no_sync()
        return waiting
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is shared out, on every rank, which all ask at the same time; another one as it is."""
    full: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full


def gathered(tree: Any) -> Any:  # noqa: ANN401 - a node of a state
    """A state with every shared tensor gathered, one after the other, into the memory of rank 0; others' are empty."""
    if isinstance(tree, dict):
        return {name: gathered(node) for name, node in tree.items()}
    if isinstance(tree, list):
        return [gathered(node) for node in tree]
    if not isinstance(tree, DTensor):
        return tree
    full = whole(tree.detach())
    return full.cpu() if tree.device_mesh.get_rank() == 0 else full.new_empty(0)


@torch.no_grad()
def fill(target: Tensor, values: Tensor) -> None:
    """Overwrite a tensor, shared out or not, with values of its whole shape, which every rank has."""
    if isinstance(target, DTensor):
        values = distribute_tensor(values.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(values)
