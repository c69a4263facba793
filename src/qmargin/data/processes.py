"""Batches of pixels from processes: each batch is decoded by one of them into memory that all share, in order.

A process is sent the few rows of a table that a batch needs, never the table. What it decodes depends on the job alone,
so the number of processes changes nothing but the time.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import RawArray
from traceback import format_exc
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Pixels = NDArray[np.uint8]

AHEAD = 2  # batches that each process holds: one in work, one to go on with


class Job(Protocol):
    """A batch to be decoded; picklable."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(batch, channels, height, width)."""

    def decode(self, into: Pixels) -> None:
        """Fill the pixels of the batch; a ValueError where an image cannot be decoded."""


class Jobs(Protocol):
    """Jobs that are made when they are asked for."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, number: int) -> Job:
        """The job with a number in [0, len)."""


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    pipe: "Connection[Any, Any]"


def decode_in_processes(jobs: Jobs, workers: int) -> Iterator[Pixels]:
    """Yield the pixels of every job, in order; each is a new array.

    Processes start with the first batch and end with the generator, whatever ends it. They are forked from a server
    that imports this package, not from this process, so a script that trains needs the usual
    `if __name__ == "__main__":`.

    Args:
        jobs: what to decode; the first batch is the largest.
        workers: processes, >= 1.

    Raises:
        ValueError: an image cannot be decoded, when its batch is due.
        ChildProcessError: a process was killed, or ended otherwise.
    """
    if not len(jobs):
        return
    size = int(np.prod(jobs[0].shape))
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "qmargin.data"])
    memory = RawArray("B", size * AHEAD * workers)  # unlinked at once: nothing is left when we are killed
    slots = np.frombuffer(memory, np.uint8).reshape(AHEAD * workers, size)
    pool: list[_Worker] = []
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, memory, size), daemon=True, name="qmargin-decode")
            process.start()
            theirs.close()
            pool.append(_Worker(process, ours))
        for number in range(min(len(slots), len(jobs))):
            _send(pool[number % workers], jobs[number], number % len(slots), number)
        for number in range(len(jobs)):
            slot, worker = number % len(slots), pool[number % workers]
            shape = _receive(worker, number)
            pixels = slots[slot, : int(np.prod(shape))].reshape(shape).copy()
            if number + len(slots) < len(jobs):
                _send(worker, jobs[number + len(slots)], slot, number)
            yield pixels
    finally:
        _end(pool)


def _send(worker: _Worker, job: Job, slot: int, number: int) -> None:
    try:
        worker.pipe.send((job, slot))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _lost(worker, number) from error


def _receive(worker: _Worker, number: int) -> tuple[int, ...]:
    """Shape of the next batch of a worker, or its error."""
    ready = connection.wait([worker.pipe, worker.process.sentinel])
    if worker.pipe not in ready:
        raise _lost(worker, number)
    try:
        kind, answer = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _lost(worker, number) from error
    if kind is not None:
        raise kind(answer)
    shape: tuple[int, ...] = answer
    return shape


def _lost(worker: _Worker, number: int) -> ChildProcessError:
    worker.process.join(5.0)
    code = worker.process.exitcode
    how = f"ended with status {code}"
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    return ChildProcessError(
        f"the process {worker.process.pid} that decodes images {how} before its next batch, the {number + 1:,}th, was "
        "done. The system kills processes when memory runs out: set fewer workers or a smaller batch. If it never "
        'started, does your script have `if __name__ == "__main__":`? A run goes on from its last checkpoint by --resume'
    )


def _end(pool: Sequence[_Worker]) -> None:
    for worker in pool:
        worker.pipe.close()
        worker.process.terminate()
    for worker in pool:
        worker.process.join()
        worker.process.close()


def _work(pipe: "Connection[Any, Any]", memory: Any, size: int) -> None:  # noqa: ANN401 - ctypes has no type for it
    """What a process does: decode the batches that come, until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which finishes its step
    slots = np.frombuffer(memory, np.uint8).reshape(-1, size)
    while True:
        try:
            job, slot = pipe.recv()
        except EOFError:
            return
        try:
            job.decode(slots[slot, : int(np.prod(job.shape))].reshape(job.shape))
            answer: tuple[type[Exception] | None, object] = (None, job.shape)
        except ValueError as error:
            answer = (ValueError, str(error))
        except Exception:  # noqa: BLE001 - a fault of ours, to be raised where it is seen
            answer = (RuntimeError, f"a process that decodes images failed:\n{format_exc()}")
        pipe.send(answer)
