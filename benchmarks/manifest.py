"""Time and memory of reading a manifest of millions of rows into arrays, and of a list of Python rows beside it.

    python benchmarks/manifest.py [--rows 10000000] [--out FILE]

The CSV file has rows as Glint360K would: `id_123456/1234567.jpg,id_123456,train`, 47 images an identity. Each way is a
process of its own; `kept` is what the process holds afterwards beyond what it held before, `peak` what it
reached (VmRSS and VmHWM of Linux). The images themselves are not there and not looked for.
"""

import argparse
import csv
import gc
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from qmargin.data import read_manifest

COLUMNS = ["rows", "way", "what", "seconds", "kept MiB", "peak MiB"]
IMAGES = 47  # of an identity, as in Glint360K


def memory_mib(kind: str) -> float:
    """VmRSS or VmHWM of this process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 1024


def write_table(path: Path, rows: int) -> None:
    """The CSV file."""
    with path.open("w", encoding="utf-8") as file:
        file.write("path,identity,split\n")
        for number in range(rows):
            name = f"id_{number // IMAGES:06d}"
            file.write(f"{name}/{number:08d}.jpg,{name},train\n")


def arrays(path: Path) -> list[tuple[str, Callable[[], object]]]:
    """As training reads it."""
    held: dict[str, object] = {}

    def read() -> None:
        held["manifest"] = read_manifest(path, check_files=False)

    def subset() -> None:
        held["train"] = held["manifest"].subset("train")  # type: ignore[attr-defined]

    def digest() -> object:
        return held["manifest"].digest  # type: ignore[attr-defined]

    def batches() -> None:
        order = np.random.default_rng(0).permutation(len(held["manifest"]))[:12800]  # type: ignore[arg-type]
        for start in range(0, len(order), 128):
            held["manifest"].take(order[start : start + 128])  # type: ignore[attr-defined]

    return [("read", read), ("subset", subset), ("digest", digest), ("take 100 batches of 128", batches)]


def python_rows(path: Path) -> list[tuple[str, Callable[[], object]]]:
    """A list of rows of text, nothing checked: what the arrays stand in for."""
    held: dict[str, object] = {}

    def read() -> None:
        with path.open(encoding="utf-8", newline="") as file:
            held["rows"] = list(csv.reader(file))

    return [("read", read)]


WAYS = {"arrays": arrays, "python rows": python_rows}


def measure(way: str, path: Path, rows: int) -> None:
    """Print the rows of one way."""
    for what, action in WAYS[way](path):
        gc.collect()
        before, began = memory_mib("VmRSS"), time.perf_counter()
        action()
        seconds = time.perf_counter() - began
        gc.collect()
        kept, peak = memory_mib("VmRSS") - before, memory_mib("VmHWM") - before
        csv.writer(sys.stdout).writerow([rows, way, what, f"{seconds:.2f}", f"{kept:.0f}", f"{peak:.0f}"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/manifest.csv"))
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)  # way and table, in the process of one way
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way[0], Path(arguments.way[1]), arguments.rows)
        return
    machine = f"{platform.machine()}, python {platform.python_version()}, numpy {np.__version__}"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "manifest.csv"
        write_table(table, arguments.rows)
        for way in WAYS:
            command = [sys.executable, __file__, "--rows", str(arguments.rows), "--way", way, str(table)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
            for row in csv.reader(output.splitlines()):
                rows.append([*row, machine, f"{datetime.now(timezone.utc):%Y-%m-%d}"])
                print(*(f"{name} {value}  " for name, value in zip(COLUMNS, row, strict=True)), flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "machine", "date"], *rows])


if __name__ == "__main__":
    main()
