"""Time of one forward and backward of the dense head: Q-Margin beside ArcFace and plain cross-entropy, in one run.

    python benchmarks/dense_head.py [--classes 1000 10000 100000] [--threads 1] [--out FILE]

Prototypes and embeddings are random: the widest supports, the worst case of a sparse loss. Sides alternate; medians.
"""

import argparse
import csv
import platform
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import ArcFace, DenseHead, QMargin

BATCH, DIM, REPEATS = 128, 512, 7
LOSSES = {
    "ArcFace(0.5, 64)": ArcFace(),
    "QMargin(1.5, 0.1, 6)": QMargin(),
    "QMargin(1.5, 0.1, 64)": QMargin(scale=64.0),
    "QMargin(1.25, 0.1, 16)": QMargin(alpha=1.25, scale=16.0),
    "QMargin(2, 0.1, 4)": QMargin(alpha=2.0, scale=4.0),
}


def steps(classes: int) -> dict[str, Callable[[], None]]:
    """One forward and backward of each side, on the same embeddings."""
    embeddings = torch.randn(BATCH, DIM, requires_grad=True)  # (batch, dim)
    labels = torch.randint(classes, (BATCH,))
    heads = {name: DenseHead(classes, DIM, loss) for name, loss in LOSSES.items()}
    weight = torch.randn(classes, DIM, requires_grad=True)

    def head_step(head: DenseHead) -> None:
        head.zero_grad()
        head(embeddings, labels).backward()

    def plain_step() -> None:
        weight.grad = None
        cosines: Tensor = F.linear(F.normalize(embeddings), F.normalize(weight))  # (batch, classes)
        F.cross_entropy(64.0 * cosines, labels).backward()

    sides: dict[str, Callable[[], None]] = {"F.cross_entropy": plain_step}
    return sides | {name: lambda head=head: head_step(head) for name, head in heads.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dense_head.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    machine = f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}"
    date = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    rows = []
    for classes in arguments.classes:
        sides = steps(classes)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(REPEATS + 1):  # the first round warms up
            for name, step in sides.items():
                began = time.perf_counter()
                step()
                if repeat > 0:
                    seconds[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, median in medians.items():
            rows.append([classes, name, f"{median:.4f}", f"{median / medians['ArcFace(0.5, 64)']:.2f}", machine, date])
            print(f"{classes:>9,} classes  {name:<24} {median:8.4f} s  {rows[-1][3]} x ArcFace", flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        header = ["classes", "loss", "median seconds", "times ArcFace", "machine", "date"]
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
