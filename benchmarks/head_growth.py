"""How time and memory of a step grow with batch, classes, dimension and threads: measured exponents.

    python benchmarks/head_growth.py [--threads 1 2] [--out benchmarks/results/head_growth.csv]

One size is varied, the others stay at 100,000 classes, dim 256, batch 128. The exponent is the slope of a straight line
through the points in logarithms, by least squares: 1 is proportional, 0 is constant. Memory is the resident peak beyond
prototypes and momentum, with one thread.
"""

import argparse
import csv
import io
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch

from qmargin._files import write_text
from qmargin.bench.measure import Side, take_turns
from qmargin.bench.memory import peak_of
from qmargin.bench.scene import Sizes, make_scene
from qmargin.bench.sides import AUTOCAST, DENSE, baseline_sides, streaming_side
from qmargin.losses import ArcFace, QMargin

MIDDLE = Sizes(classes=100_000, dim=256, batch=128)
VARIED = {
    "classes": [25_000, 50_000, 100_000, 200_000, 400_000],
    "dim": [64, 128, 256, 512],
    "batch": [32, 64, 128, 256, 512],
}
COLUMNS = ("varied", "classes", "dim", "batch", "threads", "side", "seconds", "peak resident MB")
EXPONENTS = ("exponent of time", "exponent of memory", "machine", "date")


def sides() -> list[Side]:
    """Dense as the reference, and the streaming head where it screens and where it streams."""
    dense = [side for side in baseline_sides() if side.name in (DENSE, AUTOCAST)]
    lazy = partial(streaming_side, "QMargin", update="lazy", state="untrained")
    arcface = streaming_side("ArcFace", ArcFace(), "dense", "untrained")
    return [*dense, arcface, lazy(loss=QMargin(scale=64.0)), lazy(loss=QMargin(scale=6.0))]


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent b of `values ~ sizes^b`; NaN where a value is not positive (below what can be measured)."""
    if min(values) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(name: str, threads: int, rounds: int, *, memory: bool) -> list[dict[str, str]]:
    """A row for each side and size, with the exponents over all sizes."""
    torch.set_num_threads(threads)
    rows: list[dict[str, str]] = []
    points: dict[str, tuple[list[float], list[float]]] = {side.name: ([], []) for side in sides()}
    for value in VARIED[name]:
        sizes = MIDDLE._replace(**{name: value})
        timings = take_turns(make_scene(sizes), sides(), rounds=rounds, steps=3)
        for side in sides():
            seconds = timings[side.name].median
            peak = peak_of(side, sizes).resident / 1e6 if memory else float("nan")
            points[side.name][0].append(seconds)
            points[side.name][1].append(peak)
            cells = [name, *map(str, sizes), str(threads), side.name, f"{seconds:.5f}", f"{peak:.1f}" if memory else ""]
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
            print("  ".join(cells), flush=True)
    machine = f"{platform.machine()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    for row in rows:
        seconds_of, peaks_of = points[row["side"]]
        row["exponent of time"] = f"{slope(VARIED[name], seconds_of):.2f}"
        row["exponent of memory"] = f"{slope(VARIED[name], peaks_of):.2f}" if memory else ""
        row |= {"machine": machine, "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}
    return rows


def main() -> None:
    """Measure, print and write after every varied size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--varied", nargs="+", choices=list(VARIED), default=list(VARIED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head_growth.csv"))
    arguments = parser.parse_args()
    rows: list[dict[str, str]] = []
    for threads in arguments.threads:
        for name in arguments.varied:
            rows += measure(name, threads, arguments.rounds, memory=threads == arguments.threads[0])
            text = io.StringIO()
            writer = csv.DictWriter(text, [*COLUMNS, *EXPONENTS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(arguments.out, text.getvalue())
    for row in {(row["varied"], row["threads"], row["side"]): row for row in rows}.values():
        print(
            f"{row['side']:<42} {row['varied']:<8} {row['threads']} threads: time ^{row['exponent of time']}, "
            f"memory ^{row['exponent of memory'] or '-'}"
        )


if __name__ == "__main__":
    main()
