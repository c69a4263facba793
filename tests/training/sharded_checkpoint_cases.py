"""What the ranks of tests/training/test_sharded_checkpoint.py do: `python sharded_checkpoint_cases.py FOLDER`.

Four ranks train, save and go on; then three, two and one (a streaming head) read what they saved and go on from there.
"""

import copy
import json
import multiprocessing
import shutil
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from qmargin import QMargin, StreamingHead
from qmargin._files import make_folder
from qmargin.heads import Head, ShardedHead
from qmargin.heads.collectives import Group
from qmargin.training.checkpoint import State
from qmargin.training.folder import RunFolder
from qmargin.training.newest import newest_state
from qmargin.training.ranks import World
from qmargin.training.sharded_checkpoint import (
    as_sharded,
    newest_checkpoint,
    open_sharded_checkpoint,
    save_sharded_checkpoint,
)
from qmargin.training.sync_norm import with_global_norms

CLASSES, DIM, BATCH, RANKS = 50, 6, 9, 4
SAVED, LAST = 4, 8  # steps
Optimizers = dict[str, Callable[[Any], torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    "sgd": lambda head: head.make_optimizer(lr=0.01, momentum=0.9),
    "adamw": lambda head: head.make_adamw(lr=0.01),
}


def new_head(group: distributed.ProcessGroup | None) -> Head:
    torch.manual_seed(2)
    base = torch.linspace(0.5, 2.0, CLASSES)
    if group is None:
        return StreamingHead(CLASSES, DIM, QMargin(), base=base, dtype=torch.float64)
    return ShardedHead(CLASSES, DIM, QMargin(), group=group, base=base, dtype=torch.float64)


def train(head: Head, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """The losses of the steps; global batches that do not depend on the number of ranks."""
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        embeddings = torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        if isinstance(head, ShardedHead):
            rank, ranks = head.ranks.rank, head.ranks.size
            embeddings, labels = embeddings.tensor_split(ranks)[rank], labels.tensor_split(ranks)[rank]
        optimizer.zero_grad()
        loss = head(embeddings, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def save(head: ShardedHead, optimizer: torch.optim.Optimizer, step: int, directory: Path) -> Path:
    slots = optimizer.state_dict()
    state = {
        "step": step,
        "common": torch.arange(5.0),
        "head": as_sharded(head.state_dict(), head),
        "optimizers": {
            "head": {
                "state": {str(index): as_sharded(slot, head) for index, slot in slots["state"].items()},
                "param_groups": slots["param_groups"],
            }
        },
    }
    return save_sharded_checkpoint(state, directory, head)


def resume(group: distributed.ProcessGroup | None, name: str, folder: Path) -> tuple[Head, torch.optim.Optimizer]:
    head = new_head(group)
    optimizer = OPTIMIZERS[name](head)
    with open_sharded_checkpoint(folder, head if isinstance(head, ShardedHead) else None) as state:
        assert torch.equal(state["common"].read(), torch.arange(5.0))
        fill_all(head, optimizer, state)
    return head, optimizer


def fill_all(head: Head, optimizer: torch.optim.Optimizer, state: State) -> None:
    fill(head.state_dict(), state["head"])
    saved = state["optimizers"]["head"]
    slots = {int(index): {key: leaf.read() for key, leaf in slot.items()} for index, slot in saved["state"].items()}
    optimizer.load_state_dict({"state": slots, "param_groups": saved["param_groups"]})


def fill(targets: dict[str, Tensor], leaves: State) -> None:
    assert targets.keys() == leaves.keys()
    for name, leaf in leaves.items():
        leaf.copy_to(targets[name])


def cases(name: str, groups: dict[int, distributed.ProcessGroup], rank: int, folder: Path) -> None:
    truth_head = new_head(None)
    truth = train(truth_head, OPTIMIZERS[name](truth_head), range(LAST))

    def check(losses: list[float], begin: int) -> None:
        torch.testing.assert_close(torch.tensor(losses), torch.tensor(truth[begin:]), rtol=1e-9, atol=1e-12)

    head = new_head(groups[RANKS])
    assert isinstance(head, ShardedHead)
    optimizer = OPTIMIZERS[name](head)
    train(head, optimizer, range(2))
    save(head, optimizer, 2, folder)
    train(head, optimizer, range(2, SAVED))
    saved = save(head, optimizer, SAVED, folder)
    check(train(head, optimizer, range(SAVED, LAST)), SAVED)
    assert newest_checkpoint(folder) == saved
    assert [path.name for path in folder.iterdir()] == [saved.name]  # the one before, and what was hidden, are gone
    try:
        save(head, optimizer, SAVED, folder)
        raise AssertionError("a checkpoint was written over")
    except ValueError as error:
        assert f"rank 0: {saved} already is a checkpoint" in str(error)  # noqa: PT017 - on a rank, without pytest
    for ranks in range(RANKS, 1, -1):
        if rank < ranks:
            resumed, its_optimizer = resume(groups[ranks], name, saved)
            check(train(resumed, its_optimizer, range(SAVED, LAST)), SAVED)
            if ranks == 3:
                assert isinstance(resumed, ShardedHead)
                save(resumed, its_optimizer, LAST, folder / "of-three")
    if rank == 0:
        resumed, its_optimizer = resume(None, name, saved)
        check(train(resumed, its_optimizer, range(SAVED, LAST)), SAVED)
    world = World(Group(groups[RANKS]))
    runs = RunFolder(folder / "run"), RunFolder(folder / "of-one")
    world.first(lambda: _copy(saved, runs[0].shards / saved.name))
    world.merge(runs[0])
    world.first(lambda: _copy(runs[0].checkpoint, runs[1].checkpoint))
    for run in runs:  # one with shards beside the file, one with the file of one process
        again = new_head(groups[RANKS])
        its_optimizer = OPTIMIZERS[name](again)
        with newest_state(run, again) as state:
            assert state is not None
            fill_all(again, its_optimizer, state)
        check(train(again, its_optimizer, range(SAVED, LAST)), SAVED)
    assert world.any(rank == 2, False) == [True, False]


def _copy(source: Path, target: Path) -> None:
    make_folder(target.parent)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def refusals(groups: dict[int, distributed.ProcessGroup], folder: Path) -> None:
    """What rank 0 cannot write is an error of all."""
    (folder / "file").write_text("in the way")
    head = new_head(groups[RANKS])
    assert isinstance(head, ShardedHead)
    try:
        save(head, OPTIMIZERS["sgd"](head), 1, folder / "file")
        raise AssertionError("a file was taken for a folder")
    except ValueError as error:
        assert "rank 0: cannot write" in str(error)  # noqa: PT017


def global_norms(group: distributed.ProcessGroup, rank: int) -> None:
    """A network with batch norms, its batch shared out: outputs, running statistics and gradients of one process."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5, momentum=None)]
    one = nn.Sequential(*layers, nn.BatchNorm1d(5, affine=False)).double()
    shared = with_global_norms(copy.deepcopy(one), Group(group))
    parallel = DistributedDataParallel(shared, process_group=group)
    assert list(shared.state_dict()) == list(one.state_dict())
    images = torch.randn(3 * RANKS, 2, 4, 4, dtype=torch.float64)
    mine = slice(3 * rank, 3 * rank + 3)
    factors = torch.randn(3 * RANKS, 5, dtype=torch.float64)
    for _ in range(2):
        whole, part = one(images), parallel(images[mine])
        (whole * factors).sum().backward()
        (part * factors[mine] * RANKS).sum().backward()  # DDP divides by the number of ranks
        torch.testing.assert_close(part, whole[mine])
    for own, other in zip(shared.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    torch.testing.assert_close(list(shared.buffers()), list(one.buffers()))
    torch.testing.assert_close(shared.eval()(images), one.eval()(images))


def run(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    timeout = timedelta(seconds=60)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS, timeout=timeout
    )
    groups = {count: distributed.new_group(list(range(count)), timeout=timeout) for count in range(2, RANKS + 1)}
    failure = ""
    try:
        for name in OPTIMIZERS:
            cases(name, groups, rank, folder / name)
        refusals(groups, folder)
        global_norms(groups[RANKS], rank)
    except Exception:  # noqa: BLE001 - the test prints it
        failure = traceback.format_exc()
    (folder / f"rank{rank}.json").write_text(json.dumps(failure))
    distributed.destroy_process_group()


if __name__ == "__main__":
    # forked before any work: torch is imported once, not once a rank
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=run, args=(rank, Path(sys.argv[1]))) for rank in range(RANKS)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(max(abs(child.exitcode or 0) for child in children))
