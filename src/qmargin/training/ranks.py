"""One training by several processes, which torchrun (or a cluster's scheduler) has started.

The model is that of one process: the global batch is shared out, the backbone's gradients are averaged, its batch norms
see the whole batch, and the identities' prototypes are shared out over the ranks.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.parallel import DistributedDataParallel

from qmargin.heads.collectives import Group
from qmargin.training.folder import RunFolder
from qmargin.training.log import TrainingLog
from qmargin.training.newest import newest_of
from qmargin.training.parallel import Parallel, share_out
from qmargin.training.reshard import reshard
from qmargin.training.sharded_checkpoint import on_first_rank
from qmargin.training.sync_norm import with_global_norms
from qmargin.training.watch import watched


class SilentLog(nullcontext[None]):
    """In place of the log, on the ranks that have none."""

    def add(self, *_: object) -> None:
        """Nothing is written."""

    def add_validation(self, *_: object) -> None:
        """Nor of a validation."""


def own_rank() -> tuple[int, int]:
    """Rank and number of processes, as torchrun says in the environment; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class World:
    """The processes of this training; `group` is None where there is one."""

    group: Group | None = None

    @property
    def rank(self) -> int:
        """Of this process, from 0 on."""
        return 0 if self.group is None else self.group.rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return 1 if self.group is None else self.group.size

    def share(self, batch_size: int, parts: int = 1) -> int:
        """Rows of this rank in a batch of all, computed in so many equal parts.

        Raises:
            ValueError: the batch cannot be shared out evenly, or a share not cut into parts.
        """
        if batch_size % self.size:
            raise ValueError(
                f"batch_size is that of all ranks together: {batch_size} rows cannot be shared evenly by {self.size}; "
                f"set it to a multiple of {self.size}"
            )
        share = batch_size // self.size
        if share % parts:
            raise ValueError(
                f"gradient_accumulation must cut the rows of each rank into equal parts: got {parts} parts of {share} "
                f"rows (batch_size {batch_size}, {self.size} ranks); set batch_size to a multiple of "
                f"{self.size * parts}"
            )
        return share

    def scaler(self, device: str, *, enabled: bool) -> torch.amp.GradScaler:
        """Of the loss; an overflow that one rank saw is one of all."""
        kind = torch.device(device).type
        if self.group is None or not enabled:
            return torch.amp.GradScaler(kind, enabled=enabled)
        return ShardedGradScaler(kind)

    def parallel(self, backbone: nn.Module, how: Parallel, *, compiled: bool = False) -> Callable[[Tensor], Tensor]:
        """What to call in place of the backbone, whose gradients are then those of the global batch."""
        if self.group is not None:
            with_global_norms(backbone, self.group)
            self.share_out(backbone, how)
        forward = torch.compile(backbone) if compiled else backbone
        return forward if self.group is None or how == "fsdp" else DistributedDataParallel(forward)

    def share_out(self, network: nn.Module, how: Parallel) -> None:
        """Of a network that is held in parts keep this rank's."""
        if self.group is not None and how == "fsdp":
            share_out(network, self.group)

    def texts(self, own: str) -> list[str]:
        """The text of every rank, by rank."""
        return [own] if self.group is None else self.group.gather_texts(own)

    def first(self, action: Callable[[], None]) -> None:
        """Done by rank 0 alone; the others wait, and raise what it raises."""
        if self.group is None:
            action()
        else:
            on_first_rank(self.group, action)

    def any(self, *flags: bool, refusal: ValueError | None = None) -> list[bool]:
        """Of each flag whether it is set on some rank.

        Raises:
            ValueError: some rank has a refusal; it is raised by all.
        """
        if self.group is None:
            if refusal is not None:
                raise refusal
            return list(flags)
        table = self.group.announce([int(flag) for flag in flags], refusal)
        return [any(column) for column in zip(*table, strict=True)]

    def locked(self, run: RunFolder) -> AbstractContextManager[None]:
        """Rank 0 holds the folder for all."""
        return run.locked() if self.rank == 0 else nullcontext()

    def log(self, run: RunFolder, *, start: int, steps: int, every: int, title: str) -> "TrainingLog | SilentLog":
        """Rank 0 writes the log and shows the bar, for all."""
        if self.rank == 0:
            return TrainingLog(run, start=start, steps=steps, every=every, title=title)
        return SilentLog()

    def seed_dropout(self, seed: int, step: int) -> None:
        """Other masks on every rank; from (seed, rank, step), so that nothing has to be stored of the others."""
        if self.group is not None:
            torch.manual_seed((seed * self.size + self.rank) * 1_000_003 + step)

    def merge(self, run: RunFolder) -> None:
        """One file of the newest shards, which every other command reads."""

        def merged() -> None:
            newest = newest_of(run)
            if newest is None or not newest.is_dir():
                return
            run.merged.unlink(missing_ok=True)
            reshard(newest, run.merged, ranks=1)
            run.merged.replace(run.checkpoint)

        if self.group is not None:
            self.first(merged)


ALONE = World()


@contextmanager
def processes(device: str) -> Iterator[World]:
    """The world of this process, alone or started by torchrun; its group ends with the block.

    A rank that another one does not hear for a while ends this process: `qmargin.training.watch`.

    Raises:
        ValueError: also where another rank ended first and left this one waiting.
    """
    if own_rank()[1] == 1:
        yield ALONE
        return
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:  # "cuda" is then the GPU of this rank on its machine
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        with watched():
            yield World(Group())
    except RuntimeError as error:
        if "gloo" not in str(error) and not isinstance(error, distributed.DistError):
            raise
        raise ValueError(
            f"another rank ended first; its error is the one to read ({str(error).splitlines()[0]})"
        ) from error
    finally:
        distributed.destroy_process_group()
