"""Kill one rank while all save, again and again: `python kill_during_save.py FOLDER [--trials 20] [--seed 0]`.

Three ranks do nothing but save a head of which every number is the step; every other time in the background, while the
numbers change. At a random moment one of them is killed; the others must end by themselves within a minute, and the
newest checkpoint must hold one step's numbers and no others.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from qmargin import QMargin
from qmargin.heads import ShardedHead
from qmargin.training.sharded_checkpoint import (
    as_sharded,
    begin_sharded_checkpoint,
    newest_checkpoint,
    open_sharded_checkpoint,
    save_sharded_checkpoint,
)

RANKS, CLASSES, DIM = 3, 30_000, 32
LONGEST = 0.4  # seconds after the first checkpoint, some twenty checkpoints later
AT_MOST = 60.0  # seconds that a rank outlives another


def save_forever(rank: int, store: Path, folder: Path, *, background: bool) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=30)
    )
    group = distributed.new_group()
    assert group is not None
    head = ShardedHead(CLASSES, DIM, QMargin())
    momentum = torch.empty_like(head.weight)
    step = 0
    while True:
        step += 1
        with torch.no_grad():
            head.weight.fill_(step)
        momentum.fill_(step)
        state = as_sharded({"weight": head.weight, "momentum": momentum}, head)
        if not background:
            save_sharded_checkpoint({"step": step, **state}, folder, head)
            continue
        finish = begin_sharded_checkpoint({"step": step, **state}, folder, head, group)
        with torch.no_grad():
            head.weight.fill_(-1.0)
        momentum.fill_(-1.0)
        finish()


def trial(place: Path, moment: random.Random, *, background: bool) -> str:
    """What was found; raises where the newest checkpoint is not one step, whole."""
    context = multiprocessing.get_context("fork")  # before any work: torch is imported once, not once a rank
    folder = place / "checkpoints"
    ranks = [context.Process(target=_quietly, args=(rank, place, folder, background)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    try:
        while newest_checkpoint(folder) is None:
            time.sleep(0.01)
        time.sleep(moment.uniform(0.0, LONGEST))
        victim = moment.randrange(RANKS)
        pid = ranks[victim].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        began = time.perf_counter()
        for rank in ranks:
            rank.join(AT_MOST)
        assert not any(rank.is_alive() for rank in ranks), f"a rank outlived rank {victim} by {AT_MOST:g} s"
        took = time.perf_counter() - began
    finally:
        for rank in ranks:
            rank.kill()
    written = sorted(path.name for path in folder.iterdir())
    newest = newest_checkpoint(folder)
    assert newest is not None
    with open_sharded_checkpoint(newest) as state:
        for name in ("weight", "momentum"):
            assert bool((state[name].read() == state["step"]).all()), f"{name} is not that of step {state['step']}"
    return f"killed rank {victim}, the others ended in {took:.1f} s, in the folder: {', '.join(written)}"


def _quietly(rank: int, place: Path, folder: Path, background: bool) -> None:
    """The error of a rank whose peer was killed is expected, and long."""
    with (place / f"rank{rank}.err").open("w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
        save_forever(rank, place / "store", folder, background=background)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moment = random.Random(arguments.seed)  # noqa: S311 - of a moment
    interrupted = 0
    for number in range(arguments.trials):
        place = arguments.folder / f"trial-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        found = trial(place, moment, background=number % 2 == 1)
        interrupted += ".partial" in found
        sys.stdout.write(f"{found}\n")
    sys.stdout.write(f"{arguments.trials} checkpoints whole, {interrupted} of them beside one that was being written\n")


if __name__ == "__main__":
    main()
