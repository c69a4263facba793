"""What a training step on a CPU costs because memory goes back to the system, and what keeping it costs.

    python benchmarks/allocator.py [--recipes faces-small speakers-small] [--rounds 3] [--steps 8] [--out FILE]

glibc gives large blocks back when they are freed, so that each step asks for its activations anew and the system clears
every page of them again. GLIBC_TUNABLES tells it to keep them. Each row is a process: forward and backward of a
recipe's backbone, random inputs, one thread; the ways take turns, the figures are medians over the rounds.
"""

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import nn

from qmargin.recipes import find_recipe
from qmargin.training import SpeechDataConfig, TrainConfig
from qmargin.training.log import peak_memory_mib

KEEP = "glibc.malloc.mmap_threshold=8000000000:glibc.malloc.trim_threshold=8000000000:glibc.malloc.top_pad=268435456"
WAYS = {"as it is": "", "kept": KEEP}  # GLIBC_TUNABLES
COLUMNS = ["recipe", "way", "step ms", "system share %", "peak MiB"]


def inputs(config: TrainConfig) -> torch.Tensor:
    """A random batch of the recipe's: images or features."""
    frames = [config.data.frames] if isinstance(config.data, SpeechDataConfig) else []
    return torch.randn(config.batch_size, *frames, *config.data.input_shape)


def step(backbone: nn.Module, batch: torch.Tensor) -> None:
    """Forward and backward."""
    backbone.zero_grad()
    backbone(batch).square().sum().backward()


def measure(recipe: str, steps: int) -> list[float]:
    """Milliseconds of a step in processor time, the system's share of it, and peak memory: of this process."""
    torch.set_num_threads(1)
    config = find_recipe(recipe).with_loss()
    backbone, batch, times = config.backbone.build(), inputs(config), []
    step(backbone, batch)  # what is made at first use
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(steps):
        began = time.process_time()
        step(backbone, batch)
        times.append(time.process_time() - began)
    after = resource.getrusage(resource.RUSAGE_SELF)
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    return [1000.0 * statistics.median(times), 100.0 * system / (system + user), peak_memory_mib()]


def rows(recipe: str, rounds: int, steps: int) -> list[list[str]]:
    """A row for each way, measured in turns."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, tunables in WAYS.items():
            command = [sys.executable, __file__, "--row", recipe, str(steps)]
            environment = {**os.environ, "GLIBC_TUNABLES": tunables}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
            found[way].append([float(cell) for cell in done.stdout.split(",")])
    medians = {way: map(statistics.median, zip(*measured, strict=True)) for way, measured in found.items()}
    return [[recipe, way, *map("{:.0f}".format, figures)] for way, figures in medians.items()]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["faces-small", "speakers-small"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/allocator.csv"))
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # recipe and steps, in the process of one row
    arguments = parser.parse_args()
    if arguments.row:
        print(*measure(arguments.row[0], int(arguments.row[1])), sep=",")
        return
    end = [f"{platform.machine()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}, torch {torch.__version__}"]
    end.append(f"{datetime.now(timezone.utc):%Y-%m-%d}")
    table = [[*row, *end] for recipe in arguments.recipes for row in rows(recipe, arguments.rounds, arguments.steps)]
    for row in table:
        print(*(f"{name} {value}  " for name, value in zip(COLUMNS, row, strict=False)))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "machine", "date"], *table])


if __name__ == "__main__":
    main()
