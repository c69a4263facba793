"""What bounds the update of scattered rows: the traffic of each of its parts, beside the whole step.

    python benchmarks/row_update.py [--classes 1e5] [--touched 36000] [--threads 2]

At scale 6 an untrained head of 100,000 classes moves every third prototype. A step reads and writes those rows and
their momentum, reads their gradient and writes their low-precision copies; each part is timed over all chunks of the
optimizer, with what lies in the cache as it would in the step. Parts and step take turns; medians of --rounds.
"""

import argparse
import csv
import io
import platform
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from qmargin._files import write_text
from qmargin.bench.quantities import parse_count
from qmargin.heads.shadow import Shadow
from qmargin.optim import RowSGD
from qmargin.optim._chunks import chunk_rows

DIM = 512
COLUMNS = ("part", "milliseconds", "MB", "GB/s", "classes", "touched", "dim", "threads", "machine", "date")


def parts(weight: torch.nn.Parameter, index: Tensor, gradient: Tensor) -> dict[str, tuple[Callable[[], object], float]]:
    """Each part over all chunks, and the bytes it moves to or from memory."""
    rows = chunk_rows(weight)
    gathered, momentum = torch.empty(rows, DIM), torch.zeros(rows, DIM)
    shadow = Shadow(torch.bfloat16)
    shadow.follow(weight)
    optimizer = RowSGD([weight], 1e-6, momentum=0.9, update="lazy", listener=shadow.listener(weight))
    weight.grad = torch.sparse_coo_tensor(
        index[None], gradient, weight.shape, is_coalesced=True, check_invariants=False
    )
    data, size = weight.detach(), float(gradient.nbytes)

    def chunked(part: Callable[[Tensor, Tensor, Tensor], object]) -> Callable[[], object]:
        def run() -> None:
            for low in range(0, len(index), rows):
                where = index[low : low + rows]
                part(where, gathered[: len(where)], gradient[low : low + rows])

        return run

    def move(_where: Tensor, into: Tensor, grads: Tensor) -> None:
        sgd([into], [grads], [momentum[: len(into)]], fused=True, weight_decay=0.0, momentum=0.9, lr=1e-6,
            dampening=0.0, nesterov=False, maximize=False)  # fmt: skip

    return {
        "gather rows": (chunked(lambda where, into, _: torch.index_select(data, 0, where, out=into)), size),
        "write rows back": (chunked(lambda where, into, _: data.index_copy_(0, where, into)), size),
        "SGD in the cache, gradient read": (chunked(move), size),
        "low-precision copy": (chunked(lambda where, into, _: shadow.write(where, into)), size / 2),
        "whole step": (optimizer.step, 5.5 * size),  # rows and momentum both ways, gradient, copy
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="1e5")
    parser.add_argument("--touched", default="36000")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/row_update.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    classes, touched = parse_count(arguments.classes, "--classes"), parse_count(arguments.touched, "--touched")
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.empty(classes, DIM).normal_(std=0.01, generator=generator))
    index = torch.randperm(classes, generator=generator)[:touched].sort().values
    measured = parts(weight, index, torch.randn(touched, DIM, generator=generator) * 1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(arguments.rounds + 1):
        for name, (part, _size) in measured.items():
            began = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - began)
    machine = f"{platform.machine()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, (_part, size) in measured.items():
        median = statistics.median(seconds[name][1:])
        cells = [name, f"{1e3 * median:.1f}", f"{size / 1e6:.0f}", f"{size / 1e9 / median:.1f}"]
        print("  ".join(cells), flush=True)
        date = f"{datetime.now(timezone.utc):%Y-%m-%d}"
        writer.writerow([*cells, classes, touched, DIM, arguments.threads, machine, date])
    write_text(arguments.out, text.getvalue())


if __name__ == "__main__":
    main()
