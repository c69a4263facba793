"""What each precision of screening costs on this machine: a step of the streaming head, and its product alone.

    python benchmarks/precision.py [--classes 1e5] [--threads 2]

"auto" must be the fastest of them, or near it. The product alone is that of a chunk of 4,096 classes with the batch,
in the type itself (`torch.mm`) and as the head does it (`qmargin.heads.products`). Precisions take turns; medians.
"""

import argparse
import csv
import io
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from metrics import cpu_name
from qmargin._files import write_text
from qmargin.bench.measure import Side, take_turns
from qmargin.bench.quantities import parse_count
from qmargin.bench.scene import Sizes, make_scene
from qmargin.bench.sides import streaming_side
from qmargin.heads.products import COPIES, ChunkProducts, Precision, screening_precision
from qmargin.losses import QMargin

DIM, BATCH, CHUNK = 512, 128, 4096
SCALES = (64.0, 6.0)
COLUMNS = (
    "precision", "is", "scale", "step s", "times auto", "mm of a chunk ms", "product of a chunk ms", "classes", "dim",
    "batch", "threads", "machine", "date",
)  # fmt: skip


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """Median of several calls, after one to warm up."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds[1:])


def of_a_chunk(name: str, rounds: int) -> tuple[str, str]:
    """Milliseconds of the bare product in the type of a precision, and of the head's own."""
    dtype = COPIES[name] or torch.float32
    rows, directions = torch.randn(CHUNK, DIM).to(dtype), torch.randn(BATCH, DIM)
    transposed, out = directions.to(dtype).T.contiguous(), torch.empty(CHUNK, BATCH, dtype=dtype)
    ours = ChunkProducts(rows, directions, CHUNK)
    bare = milliseconds(partial(torch.mm, rows, transposed, out=out), rounds)
    return f"{bare:.2f}", f"{milliseconds(partial(ours.into_buffer, 0, CHUNK), rounds):.2f}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="1e5")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    classes = parse_count(arguments.classes, "--classes")
    scene = make_scene(Sizes(classes, DIM, BATCH))
    rows = []
    for scale in SCALES:
        sides: dict[str, Side] = {}
        for precision in get_args(Precision):
            side = streaming_side(precision, QMargin(scale=scale), "lazy", "trained", precision)
            sides[precision] = side
        timings = take_turns(scene, list(sides.values()), rounds=arguments.rounds, steps=3)
        auto = timings[sides["auto"].name].median
        for precision, side in sides.items():
            taken = screening_precision(precision, torch.device("cpu"))  # type: ignore[arg-type] # one of them
            seconds = timings[side.name].median
            cells = [precision, taken, f"{scale:g}", f"{seconds:.4f}", f"{seconds / auto:.2f}"]
            cells += of_a_chunk(taken, arguments.rounds)
            print("  ".join(cells), flush=True)
            date = f"{datetime.now(timezone.utc):%Y-%m-%d}"
            rows.append([*cells, classes, DIM, BATCH, arguments.threads, machine(), date])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_text(arguments.out, text.getvalue())


def machine() -> str:
    """Processor and what torch makes of it."""
    return f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
