"""The training log: what users ask for, averaged between rows, in log.csv, in TensorBoard and on the progress bar."""

import csv
import io
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter
from typing_extensions import Self

from qmargin._files import write_text
from qmargin.heads import HeadStats
from qmargin.training.folder import RunFolder

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "accuracy",
    "target_cosine",
    "support_size",
    "zero_loss",
    "target_dropped",
    "p_target",
    "candidates",
    "fallback_rows",
    "gradient_norm",
    "prototypes_taught",
    "prototypes_effective",
    "learning_rate",
    "alpha",
    "scale",
    "margin",
    "images_per_second",
    "seconds_left",
    "peak_memory_mib",
)


class TrainingLog:
    """Collects the numbers of each step on the device and writes a row every `every` steps (one device read each)."""

    def __init__(self, run: RunFolder, *, start: int, steps: int, every: int, title: str) -> None:
        self.run, self.every, self.steps, self.start = run, every, steps, start
        self._sums: dict[str, Tensor] = {}
        self._count = self._images = 0
        keep_rows_until(run.log, start, COLUMNS)
        keep_rows_until(run.validation, start)
        self._writer = SummaryWriter(log_dir=str(run.tensorboard), purge_step=start + 1)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(title, total=steps, completed=start, numbers="")
        self._began = self._since = time.perf_counter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._writer.close()

    def add(
        self, step: int, images: int, stats: HeadStats, numbers: dict[str, Tensor], settings: dict[str, float]
    ) -> None:
        """Count one finished step; `step` is the number of steps done, `settings` are written as they stand."""
        for name, value in {**vars(stats), **numbers}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._count += 1
        self._images += images
        if step % self.every == 0 or step == self.steps:
            self._write(step, settings)
        self._progress.update(self._task, completed=step)

    def add_validation(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures of a validation after `step` to validation.csv and TensorBoard."""
        append_row(self.run.validation, {"step": step, **figures})
        for name, value in figures.items():
            self._writer.add_scalar(f"validation/{name}", value, step)
        self._writer.flush()

    def _write(self, step: int, settings: dict[str, float]) -> None:
        now = time.perf_counter()
        names = list(self._sums)
        means = (torch.stack([self._sums[name].float() for name in names]) / self._count).tolist()
        row = {
            **dict(zip(names, means, strict=True)),
            **settings,
            "step": step,
            "images_per_second": self._images / (now - self._since),
            "seconds_left": (now - self._began) / (step - self.start) * (self.steps - step),
            "peak_memory_mib": peak_memory_mib(),
        }
        for name in COLUMNS[2:]:
            self._writer.add_scalar(name, row[name], step)
        self._writer.flush()  # a killed run keeps its curves
        append_row(self.run.log, {name: row[name] for name in COLUMNS})
        numbers = f"loss {row['loss']:.3f} support {row['support_size']:.1f} {row['images_per_second']:.0f}/s"
        self._progress.update(self._task, numbers=numbers)
        self._sums, self._count, self._images, self._since = {}, 0, 0, now


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append one row to the CSV file, with the header if it is new; the columns are those of the row, in its order."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a training log; a last line cut short by a crash is left out."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(whole))]


def keep_rows_until(path: Path, step: int, columns: Sequence[str] | None = None) -> None:
    """Drop rows of steps that a resumed run will do again; give the others these columns, nan where they had none."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    header, *rows = [line for line in lines if line.endswith("\n")] or [""]  # without what a crash cut short
    if not header:  # cut short itself: the next row writes it anew
        path.unlink()
        return
    names = header.rstrip().split(",")
    kept = [
        cells
        for cells in (dict(zip(names, row.rstrip().split(","), strict=True)) for row in rows)
        if float(cells["step"]) <= step
    ]
    wanted = names if columns is None else columns
    lines = [",".join(wanted), *(",".join(cells.get(name, "nan") for name in wanted) for cells in kept)]
    write_text(path, "\r\n".join(lines) + "\r\n")


def peak_memory_mib() -> float:
    """Peak memory in MiB: of the CUDA device where one is used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage starts from the peak of the process that started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
