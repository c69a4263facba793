"""Carrying a study out: the runs that have no row yet, one after the other, shared by all processes that are at it."""

import fcntl
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import torch

from qmargin._files import make_folder
from qmargin.training import RunFolder, TrainConfig, train
from study import Run, Study, finished
from study_rows import KEY, Row, last_logged, read_rows, write_rows

PAUSE = 5.0  # seconds until a process looks again whether the others have finished what it waits for


def carry_on(
    study: Study, path: Path, columns: Sequence[str], carry_out: Callable[[Run], Row], claims: Path
) -> list[Row]:
    """Carry out the runs that have no row yet, one after the other; all rows. Each is in the file when its run ends.

    Args:
        study: the plan.
        path: CSV file of the rows.
        columns: of that file.
        carry_out: does a run, tells the cells of its row beside its key.
        claims: folder where processes that share a study say what they are at; the system forgets the claims of one
            that was killed.
    """
    make_folder(claims)
    while missing := _missing(study, rows := read_rows(path)):
        if not any(_carried_out(run, path, columns, carry_out, claims) for run in missing):
            time.sleep(PAUSE)  # another process is at all that is possible now
    return rows


def _carried_out(run: Run, path: Path, columns: Sequence[str], carry_out: Callable[[Run], Row], claims: Path) -> bool:
    """Carry a run out, unless another process is at it or was; whether this one did."""
    with claimed(claims / run.folder) as mine:
        if not mine or finished(read_rows(path), run) is not None:
            return False
        told = carry_out(run)
        if told.keys() & run.key.keys():
            raise ValueError(f"a run's figures must not be named as its key is: {sorted(told.keys() & run.key.keys())}")
        row = {**run.key, **told}
        with claimed(claims / "rows", wait=True):
            write_rows(path, columns, [*read_rows(path), row])
    shown = dict.fromkeys((*KEY, "EER", *(name for name in row if name.startswith("TAR")), "minutes"))
    print("  ".join(f"{name} {row.get(name, '')}" for name in shown), flush=True)
    return True


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the file for this process; False where another one holds it, or with `wait` once it does not any more."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def trained(run: Run, config: TrainConfig, out: Path, judge: Callable[[RunFolder], Row]) -> Row:
    """Train a run, or go on with it, and judge it: the cells of its row beside its key.

    Minutes are those of this process, since its last start.
    """
    began = time.perf_counter()
    folder = train(config, out / run.folder, resume=True, title=f"{run.phase}: {run.folder}")
    return {
        "split": run.split,
        **judge(folder),
        **last_logged(folder),
        "precision": config.precision,
        "minutes": f"{(time.perf_counter() - began) / 60:.1f}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
    }


def _missing(study: Study, rows: Sequence[Row]) -> list[Run]:
    return [run for run in study.planned(rows) if finished(rows, run) is None]
