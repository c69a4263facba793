"""What the ranks of tests/training/test_sharded_checkpoint.py do: `python sharded_checkpoint_cases.py FOLDER`.

Four ranks train, save and go on; then three, two and one (a streaming head) read what they saved and go on from there.
"""

import json
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from qmargin import QMargin, StreamingHead
from qmargin.heads import Head, ShardedHead
from qmargin.training.checkpoint import State
from qmargin.training.sharded_checkpoint import (
    as_sharded,
    newest_checkpoint,
    open_sharded_checkpoint,
    save_sharded_checkpoint,
)

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
        fill(head.state_dict(), state["head"])
        saved = state["optimizers"]["head"]
        slots = {int(index): {key: leaf.read() for key, leaf in slot.items()} for index, slot in saved["state"].items()}
        optimizer.load_state_dict({"state": slots, "param_groups": saved["param_groups"]})
    return head, optimizer


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
