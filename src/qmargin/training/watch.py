"""Ranks that watch each other: where one falls silent, all end within a minute.

A process that is killed closes its connections, and the others' exchange fails at once. A machine that hangs, or a
network that is cut, closes nothing: the others would wait for as long as torch lets them, half an hour with gloo.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

SILENCE = 40.0  # seconds without a sign of life after which a rank counts as gone
PAUSE = 1.0  # seconds between two signs
LEAVING = 5.0  # seconds that a rank which ends waits for its last sign to arrive
EXIT_SILENT = 1


def _end(text: str) -> None:
    """End this process: its main thread waits in an exchange that cannot be called off."""
    sys.stderr.write(f"rank {distributed.get_rank()}: error: {text}\n")
    sys.stderr.flush()
    os._exit(EXIT_SILENT)


@contextmanager
def watched(end: Callable[[str], None] = _end) -> Iterator[None]:
    """While the block runs, ranks exchange a number every second, in a thread and a group of their own.

    A rank that does not answer within `SILENCE` seconds ends the others, with an error; one whose connection closes
    does not, because the training's own exchange then fails, with a better one.

    Args:
        end: what to do then; ends the process unless said.
    """
    group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=SILENCE))
    leaving = threading.Event()
    thread = threading.Thread(target=_exchange, args=(group, leaving, end), name="qmargin-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join(LEAVING)


def _exchange(group: "distributed.ProcessGroup | None", leaving: threading.Event, end: Callable[[str], None]) -> None:
    """Signs of life, until some rank leaves."""
    someone_leaves = False
    while not someone_leaves:
        sign = torch.tensor([float(leaving.is_set())])
        began = time.monotonic()
        try:
            distributed.all_reduce(sign, distributed.ReduceOp.MAX, group=group)
        except RuntimeError:
            if time.monotonic() - began > 0.9 * SILENCE and not leaving.is_set():
                end(
                    f"nothing was heard from another rank for {SILENCE:g} s: its machine hangs or the network between "
                    "the machines is cut; what is saved is untouched: start all ranks again, with --resume"
                )
            return
        someone_leaves = bool(sign)
        leaving.wait(PAUSE)
