"""Time, memory and time split of a step of the heads beside their peers, in one run: the final figures of the head.

    python benchmarks/head.py [--classes 1e4 1e5 1e6 1e7] [--threads 1] [--only WORD ...] [--without WORD ...]

1e4, 1e5 and 1e6 classes are measured at dim 512, 1e7 at dim 128, batch 128. Sides take turns; medians. The states
"untrained" and "trained" are defined in qmargin.bench.scene. Sides that do not fit into the available memory are left
out and named. So are bfloat16 ones on a CPU without bfloat16 units; rows of such a CPU belong into a file of their own:
--out benchmarks/results/head_float32.csv. Rows are written after every size: a run that was stopped goes on with
--classes and the sizes that are missing, rows of other sizes stay. Afterwards `python benchmarks/head_plot.py` draws
the rows.
"""

import argparse
import csv
import io
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from peers import peer_sides
from qmargin._files import write_text
from qmargin.bench.measure import PARTS, Side, Timing, take_turns, time_split
from qmargin.bench.memory import Peak, available_memory, peak_of
from qmargin.bench.plan import Problem
from qmargin.bench.quantities import bytes_text, parse_count
from qmargin.bench.scene import STATES, Scene, Sizes, make_scene
from qmargin.bench.sides import (
    AUTOCAST,
    DENSE,
    FLOOR,
    FLOOR_CHUNKED,
    FLOOR_FULL,
    FLOOR_FULL_CHUNKED,
    PFC,
    PFC_HALF,
    STREAMING_ARCFACE,
    baseline_sides,
    streaming_side,
)
from qmargin.losses import QMargin

DIM, LARGE, LARGE_DIM, BATCH = 512, 10_000_000, 128, 128
FULL_RATE = 1.0
SCALES = (64.0, 6.0)
WIDE = {
    "QMargin(1.1)": QMargin(1.1, 0.1, 64.0),
    "QMargin(1.25)": QMargin(1.25, 0.1, 16.0),
    "QMargin(1.5)": QMargin(1.5, 0.1, 1.0),
}
RATIOS = {  # column: the sides it divides by, the fastest of them
    "times dense float32": (DENSE,),
    "times dense bfloat16": (AUTOCAST,),
    "times partial FC 0.1": (PFC, PFC_HALF),
    "times product": (FLOOR, FLOOR_FULL),
    "times product in chunks": (FLOOR_CHUNKED, FLOOR_FULL_CHUNKED),
    "times streaming ArcFace": (STREAMING_ARCFACE,),
}
KEY = ("classes", "dim", "batch", "threads", "side")
COLUMNS = (
    *KEY, "state", "scale", "seconds", "fastest", "slowest", *RATIOS, "support", "candidates", "fallback rows",
    "peak resident MB", "peak allocated MB", "peak by formula MB", "times W resident", "times W allocated",
    *(f"{part} ms" for part in PARTS), "machine", "date",
)  # fmt: skip


def all_sides() -> list[Side]:
    """Peers, floor, and the streaming head: every state, scale and update, and losses that keep every row wide."""
    full = [side for side in baseline_sides(rate=FULL_RATE) if side.name.startswith("partial FC")]
    ours = [
        streaming_side("QMargin", QMargin(1.5, 0.1, scale), update, state)
        for state in STATES
        for scale in SCALES
        for update in ("dense", "lazy")
    ]
    wide = [streaming_side(name, loss, "lazy", "untrained") for name, loss in WIDE.items()]
    return [*baseline_sides(), *full, *peer_sides(), *ours, *wide]


def that_run(sides: Sequence[Side], sizes: Sizes) -> list[Side]:
    """Sides that fit into memory, with their library and units for their products; others are named with the reason."""
    problem = Problem(classes=sizes.classes, dim=sizes.dim, batch=sizes.batch)
    available, running = available_memory(), []
    tiny = make_scene(Sizes(classes=300, dim=32, batch=8))
    for side in sides:
        cost = side.cost(problem)
        if cost.total > available:
            print(f"  left out: {side.name}: {cost.arithmetic()}, available {bytes_text(available)}", flush=True)
            continue
        if side.emulated:
            print(
                f"  left out: {side.name}: this CPU has no bfloat16 units, so it would be tens of times slower",
                flush=True,
            )
            continue
        try:
            side.make(tiny).step(tiny.batches[side.state][0])
        except ImportError as error:
            print(f"  left out: {side.name}: {error} (pip install .[bench])", flush=True)
            continue
        running.append(side)
    return running


def measure(sides: Sequence[Side], sizes: Sizes, threads: int, rounds: int, steps: int) -> list[dict[str, str]]:
    """A row for each side."""
    peaks: dict[str, Peak] = {}
    for side in sides:
        peaks[side.name] = peak_of(side, sizes, threads)
        print(f"  memory {side.name}: {bytes_text(peaks[side.name].resident)}", flush=True)

    def after_turn(side: Side, timing: Timing) -> None:
        print(f"  time   {side.name}: {timing.median:.4f} s", flush=True)

    scene = make_scene(sizes)
    timings = take_turns(scene, sides, rounds=rounds, steps=steps, after_turn=after_turn)
    return [_row(scene, side, threads, timings, peaks[side.name]) for side in sides]


def _row(scene: Scene, side: Side, threads: int, timings: dict[str, Timing], peak: Peak) -> dict[str, str]:
    sizes, timing = scene.sizes, timings[side.name]
    support = max(timing.stats.get("support_size", 1.0), 1.0)
    formula = side.cost(Problem(classes=sizes.classes, dim=sizes.dim, batch=sizes.batch, support=support)).beyond
    row = dict(zip(KEY, [*map(str, sizes), str(threads), side.name], strict=True))
    row |= {"state": side.state, "scale": f"{side.scale:g}", "seconds": f"{timing.median:.5f}"}
    row |= {"fastest": f"{min(timing.seconds):.5f}", "slowest": f"{max(timing.seconds):.5f}"}
    for column, names in RATIOS.items():
        medians = [timings[name].median for name in names if name in timings]
        row[column] = f"{timing.median / min(medians):.4f}" if medians else ""
    for column, name in (("support", "support_size"), ("candidates", "candidates"), ("fallback rows", "fallback_rows")):
        row[column] = f"{timing.stats[name]:.2f}" if timing.stats else ""
    row |= {"peak resident MB": f"{peak.resident / 1e6:.1f}", "peak allocated MB": f"{peak.allocated / 1e6:.1f}"}
    row["peak by formula MB"] = f"{formula / 1e6:.1f}"
    row["times W resident"] = f"{peak.resident / scene.weight.nbytes:.3f}"
    row["times W allocated"] = f"{peak.allocated / scene.weight.nbytes:.3f}"
    if side.name.startswith("streaming"):
        row |= {f"{part} ms": f"{1000 * seconds:.2f}" for part, seconds in time_split(scene, side).items()}
    row["machine"] = f"{platform.machine()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    return row | {"date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Put rows into the file in place of those they measure anew; the file is whole at any time."""
    new = {tuple(row[name] for name in KEY) for row in rows}
    kept: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if tuple(row[name] for name in KEY) not in new]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*kept, *rows], key=lambda row: [int(row[name]) for name in KEY[:4]]))
    write_text(path, text.getvalue())


def main() -> None:
    """Measure every size, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", nargs="+", default=["1e4", "1e5", "1e6", "1e7"])
    parser.add_argument("--dim", type=int, help=f"{DIM}, and {LARGE_DIM} from {LARGE:,} classes on, unless given")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a turn")
    parser.add_argument("--only", nargs="+", default=[], help="sides whose names contain one of these words")
    parser.add_argument("--without", nargs="+", default=[], help="no side whose name contains one of these words")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sides = [side for side in all_sides() if not arguments.only or any(word in side.name for word in arguments.only)]
    sides = [side for side in sides if not any(word in side.name for word in arguments.without)]
    for text in arguments.classes:
        classes = parse_count(text, "--classes")
        dim = arguments.dim or (LARGE_DIM if classes >= LARGE else DIM)
        sizes = Sizes(classes, dim, arguments.batch)
        print(f"{sizes}, {arguments.threads} threads", flush=True)
        running = that_run(sides, sizes)
        rows = measure(running, sizes, arguments.threads, arguments.rounds, arguments.steps)
        write_rows(arguments.out, rows)
        for row in rows:
            ratios = "  ".join(f"{row[column] or '-':>7} {column}" for column in RATIOS)
            print(f"{row['side']:<48} {float(row['seconds']):9.4f} s  {ratios}", flush=True)


if __name__ == "__main__":
    main()
