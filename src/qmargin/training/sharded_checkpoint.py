"""Checkpoints of a sharded head: each rank writes its own rows, and any number of ranks reads them.

    DIRECTORY/step-000000200/common.safetensors     the state's tree, and the tensors every rank has alike (rank 0)
                             shards/shard-00001-...  rows of the prototypes and of their optimizer (each rank its own)

The shards are written and read by torch.distributed.checkpoint, as DTensors, in its safetensors format: nothing is
pickled, and `qmargin checkpoint reshard` or any reader of safetensors can look inside.

A checkpoint is written into a hidden folder, flushed, and renamed when every rank is done; only then the one before
goes. A rank that dies in between leaves the one before.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from qmargin._files import cannot_write, make_folder, publish_folder
from qmargin.heads import ShardedHead
from qmargin.heads.collectives import Group
from qmargin.training.checkpoint import State, opened, put_together, take_apart, write_checkpoint

if TYPE_CHECKING:
    from qmargin.training.tensorfile import Stored

COMMON = "common.safetensors"
SHARDS = "shards"
SHARDING = "sharding"  # key of the tree: {"ranks": W, "classes": C}


def as_sharded(tree: Any, head: ShardedHead) -> Any:  # noqa: ANN401 - a node of a state
    """A state of the head or of its optimizer, whose tensors are rows of this rank, with those rows as DTensors."""
    if isinstance(tree, dict):
        return {name: as_sharded(node, head) for name, node in tree.items()}
    if isinstance(tree, list):
        return [as_sharded(node, head) for node in tree]
    if not isinstance(tree, Tensor):
        return tree
    assert len(tree) == len(head.class_range), "states of prototypes are rows"
    return _dtensor(tree, head)


def _dtensor(rows: Tensor, head: ShardedHead) -> DTensor:
    group = head.ranks.group or distributed.group.WORLD
    assert group is not None
    mesh = DeviceMesh.from_group(group, rows.device.type)
    whole = torch.empty(head.num_classes, *rows.shape[1:], device="meta")
    return DTensor.from_local(
        rows.detach(), mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride()
    )


def save_sharded_checkpoint(state: State, directory: Path, head: ShardedHead) -> Path:
    """Write `state`, on all ranks at the same time, to DIRECTORY/step-N with N = state["step"]; older ones go.

    Args:
        state: tree as for `save_checkpoint`; DTensors (see `as_sharded`) are written by their ranks, the rest by one.
        directory: of the run's checkpoints; made where missing.
        head: whose rows they are.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: on every rank, where one cannot write; the checkpoint of before is untouched.

    Sibling: `begin_sharded_checkpoint`, which does not wait for the disk.
    """
    writing = _Writing.of(state, directory, head)
    refusal = None
    try:
        save(writing.shards, storage_writer=_writer(writing.partial / SHARDS), process_group=writing.ranks.group)
    except CheckpointException as error:
        refusal = writing.refusal(error)
    writing.ranks.announce([], refusal)
    on_first_rank(writing.ranks, writing.publish)
    return writing.final


def begin_sharded_checkpoint(
    state: State, directory: Path, head: ShardedHead, group: distributed.ProcessGroup
) -> Callable[[], None]:
    """Copy `state` into the CPU's memory, on all ranks at the same time, and begin to write the copy.

    Args:
        state: as of `save_sharded_checkpoint`.
        directory: likewise.
        head: likewise.
        group: of all ranks and gloo, which nothing else uses while the checkpoint is written.

    Returns:
        Waits until it is written, raises what `save_sharded_checkpoint` does on the rank whose fault it is, and
        publishes the checkpoint on rank 0. To be called once, on any thread.

    Raises:
        ValueError: the folder cannot be made, on every rank.
    """
    writing = _Writing.of(state, directory, head)
    if writing.ranks.rank == 0:
        writing = replace(writing, common={name: in_memory(tensor) for name, tensor in writing.common.items()})
    written = async_save(writing.shards, storage_writer=_writer(writing.partial / SHARDS), process_group=group)
    assert isinstance(written, Future), "of a writer that copies before it returns"

    def finish() -> None:
        try:
            written.result()
        except CheckpointException as error:
            refusal = writing.refusal(error)
            if refusal is not None:
                raise refusal from error
            return
        refusal = _refusal_of(writing.publish) if writing.ranks.rank == 0 else None
        if refusal is not None:
            raise refusal

    return finish


def in_memory(tensor: Tensor) -> Tensor:
    """A copy in the memory of the CPU."""
    return tensor.detach().to("cpu", copy=True)


@dataclass(frozen=True)
class _Writing:
    """A checkpoint on its way to the disk."""

    ranks: Group
    final: Path
    partial: Path
    tree: str
    shards: State  # DTensors, of all ranks
    common: dict[str, Tensor]  # alike on all ranks

    @classmethod
    def of(cls, state: State, directory: Path, head: ShardedHead) -> "_Writing":
        """Make room for it, on all ranks at the same time."""
        final = directory / f"step-{state['step']:09d}"
        sharding = {"ranks": head.ranks.size, "classes": head.num_classes}
        tree, tensors = take_apart({**state, SHARDING: sharding})
        shards = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
        common = {name: tensor for name, tensor in tensors.items() if name not in shards}
        new = cls(head.ranks, final, directory / f".{final.name}.partial", tree, shards, common)
        on_first_rank(head.ranks, lambda: _make_room(directory, final, new.partial))
        return new

    def refusal(self, error: CheckpointException) -> ValueError | None:
        """What this rank has to say of an error that all ranks are told; None where it was another's."""
        shutil.rmtree(self.partial, ignore_errors=True)  # a disk that is full has its room again
        if self.ranks.rank not in error.failures:
            return None
        reason = error.failures[self.ranks.rank][0]
        return ValueError(f"cannot write {self.partial / SHARDS}: {reason}; the checkpoint of before is untouched")

    def publish(self) -> None:
        """Give it its name, when all ranks have written, and remove those of before."""
        _check_whole(self.partial / SHARDS, self.ranks.size)
        write_checkpoint(self.tree, self.common, self.partial / COMMON)
        publish_folder(self.partial, self.final)
        for old in self.final.parent.glob("step-*"):
            if old != self.final:
                _discard(old)


def _check_whole(shards: Path, ranks: int) -> None:
    found = len(list(shards.glob("*.safetensors")))
    if found != ranks:
        raise ValueError(
            f"of {ranks} ranks' shards {found} are in {shards}: the run's folder must lie on a disk that all ranks see"
        )


def on_first_rank(ranks: Group, action: Callable[[], None]) -> None:
    """All wait until rank 0 has done it, and raise its ValueError."""
    ranks.announce([], _refusal_of(action) if ranks.rank == 0 else None)


def _refusal_of(action: Callable[[], None]) -> ValueError | None:
    try:
        action()
    except ValueError as error:
        return error
    except OSError as error:
        return ValueError(cannot_write(Path(error.filename or "the checkpoint"), error))
    return None


def _make_room(directory: Path, final: Path, partial: Path) -> None:
    make_folder(directory)
    if final.exists():
        raise ValueError(f"{final} already is a checkpoint: another run trains in {directory}, or went on from less")
    for left in directory.glob(".step-*.partial"):  # of a run that died while it wrote
        shutil.rmtree(left)
    make_folder(partial / SHARDS)


def _discard(folder: Path) -> None:
    """Never half a checkpoint under the name of a whole one."""
    hidden = folder.with_name(f".{folder.name}.partial")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def _writer(folder: Path) -> Any:  # noqa: ANN401 - torch's writer, which torch 2.6 does not have
    if not hasattr(dcp, "HuggingFaceStorageWriter"):
        raise ValueError(f"checkpoints of a sharded head need torch >= 2.9, this is {torch.__version__}: update torch")
    return dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)


def newest_checkpoint(directory: Path) -> Path | None:
    """The whole checkpoint of most steps in a directory, or None."""
    return max(directory.glob("step-*"), default=None)


@dataclass(frozen=True)
class StoredRows:
    """A tensor that lies in the shards of a checkpoint: the rows of it that belong here. See `Stored`."""

    folder: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]  # of the rows that belong here
    head: ShardedHead | None  # whose rows; None: all of them

    def read(self, device: torch.device | str = "cpu") -> Tensor:
        """It, as a new tensor."""
        tensor = torch.empty(self.shape, dtype=self.dtype, device=device)
        self.copy_to(tensor)
        return tensor

    @torch.no_grad()
    def copy_to(self, target: Tensor) -> None:
        """Overwrite a tensor of the same shape and dtype in place."""
        assert (tuple(target.shape), target.dtype) == (self.shape, self.dtype), "the caller checks what fits"
        wanted = target.detach() if self.head is None else _dtensor(target, self.head)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # each rank reads for itself
            load({self.name: wanted}, storage_reader=_reader(self.folder), no_dist=True)


def _reader(folder: Path) -> Any:  # noqa: ANN401 - as _writer
    return dcp.HuggingFaceStorageReader(str(folder))  # type: ignore[attr-defined] # torch has it, its stubs do not say


@contextmanager
def open_sharded_checkpoint(folder: Path, head: ShardedHead | None = None) -> Iterator[State]:
    """Yield the state of a checkpoint, written by however many ranks; leaves are `Stored` and `StoredRows`.

    Args:
        folder: DIRECTORY/step-N.
        head: whose rows the leaves are to hold; None for all rows.

    Raises:
        ValueError: the checkpoint is damaged, a shard is missing, or it has another number of classes.

    Sibling: `qmargin.training.checkpoint.open_checkpoint`, for the file of one process.
    """
    with opened(folder / COMMON) as (tree, tensors):
        try:
            metadata = _reader(folder / SHARDS).read_metadata().state_dict_metadata
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"a shard in {folder / SHARDS} is damaged: {error!r}; put back a copy of it") from error
        leaves: dict[str, Stored | StoredRows] = {**tensors}
        for name, stored in metadata.items():
            rows = stored.size[0] if head is None else len(head.class_range)
            shape = (rows, *stored.size[1:])
            leaves[name] = StoredRows(folder / SHARDS, name, stored.properties.dtype, shape, head)
        state = put_together(tree, leaves)
        sharding = state.pop(SHARDING)
        for name, stored in metadata.items():
            found = sum(chunk.sizes[0] for chunk in stored.chunks)
            if found != sharding["classes"] or len(stored.chunks) != sharding["ranks"]:
                raise ValueError(
                    f"{folder} is not whole: of {name} there are {found:,} of {sharding['classes']:,} rows, from "
                    f"{len(stored.chunks)} of {sharding['ranks']} ranks; put the missing shards back"
                )
        if head is not None and head.num_classes != sharding["classes"]:
            raise ValueError(
                f"{folder} has {sharding['classes']:,} classes, the head {head.num_classes:,}: was config.json edited?"
            )
        yield state
