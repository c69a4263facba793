"""Time and memory of writing and reading the checkpoint of a large head: streamed, and by the safetensors library.

    python benchmarks/checkpoint.py [--heads 200000x128 1000000x512] [--out FILE]

Each row is a process of its own that holds prototypes and momentum (classes, dim) in float32 and no more; the memory is
what its peak grew by (VmHWM of Linux). Files are written to a temporary folder, to the disk (fsync), and read back from
the page cache where that is large enough.
"""

import argparse
import csv
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qmargin._files import replacing
from qmargin.training.checkpoint import open_checkpoint, save_checkpoint
from qmargin.training.log import peak_memory_mib

HEADS = ["200000x128", "1000000x512"]
COLUMNS = ["classes", "dim", "tensors MiB", "way", "write s", "write extra MiB", "read s", "read extra MiB"]


def streamed(state: dict[str, Tensor], path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """As training does it: chunks to the file, chunks into the tensors that are there."""

    def read() -> None:
        with open_checkpoint(path) as opened:
            for name, tensor in state.items():
                opened[name].copy_to(tensor)

    return lambda: save_checkpoint(dict(state), path), read


def library(state: dict[str, Tensor], path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """The library's functions, with the same flush to the disk, then a copy into the tensors that are there."""

    def write() -> None:
        with replacing(path) as temporary:
            save_file(state, temporary)

    def read() -> None:
        for name, tensor in load_file(path).items():
            state[name].copy_(tensor)

    return write, read


WAYS = {"streamed": streamed, "safetensors library": library}


def measured(action: Callable[[], None]) -> list[str]:
    """Seconds, and MiB that the peak of this process grew by."""
    before, began = peak_memory_mib(), time.perf_counter()
    action()
    return [f"{time.perf_counter() - began:.2f}", f"{peak_memory_mib() - before:.0f}"]


def measure(head: str, way: str) -> list[str]:
    """One row: of a process that does nothing else."""
    classes, dim = map(int, head.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        warm = {"weight": torch.ones(1 << 20)}
        for action in WAYS[way](warm, Path(folder) / "warm"):  # what is loaded at the first use
            action()
        state = {name: torch.full((classes, dim), 0.5) for name in ("weight", "momentum")}
        write, read = WAYS[way](state, Path(folder) / "head")
        size = 2 * state["weight"].nbytes / 2**20
        return [str(classes), str(dim), f"{size:.0f}", way, *measured(write), *measured(read)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="+", default=HEADS, metavar="CLASSESxDIM")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/checkpoint.csv"))
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # head and way, in the process of one row
    arguments = parser.parse_args()
    if arguments.row:
        csv.writer(sys.stdout).writerow(measure(*arguments.row))
        return
    machine = f"{platform.machine()}, torch {torch.__version__}"
    rows = []
    for head in arguments.heads:
        for way in WAYS:
            command = [sys.executable, __file__, "--row", head, way]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
            rows.append([*next(csv.reader([output])), machine, f"{datetime.now(timezone.utc):%Y-%m-%d}"])
            print(*(f"{name} {value}  " for name, value in zip(COLUMNS, rows[-1], strict=False)), flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "machine", "date"], *rows])


if __name__ == "__main__":
    main()
