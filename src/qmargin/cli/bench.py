"""`qmargin bench head --classes N --dim D --batch B`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from qmargin.bench.measure import Side, Timing, take_turns
from qmargin.bench.memory import Peak, available_memory, peak_of
from qmargin.bench.plan import Problem
from qmargin.bench.quantities import bytes_text, parse_count
from qmargin.bench.scene import Scene, Sizes, make_scene
from qmargin.bench.sides import DENSE, baseline_sides, check_fits, streaming_side
from qmargin.losses import QMargin

PARTS = ("head",)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Time and peak memory of one training step of a head (forward, backward, update) on this machine.

    Measured are ArcFace on the dense head (float32, and under bfloat16 autocast), Partial FC at rate 0.1 (approximate),
    the bare product of the batch with all classes (a floor: nothing exact can be faster), and the streaming head with
    ArcFace and with Q-Margin. Sides take turns; shown are medians. The memory that the largest side needs is computed
    first, and refused where it is not there. A CPU without bfloat16 units is tens of times slower at bfloat16: there
    the bfloat16 sides are left out unless --only names them.

    Example: qmargin bench head --classes 1e5 --dim 512 --batch 128 --threads 2
    """

    classes: str = "1e5"
    """Number of identities C, for example 1e6 or 93_431."""
    dim: str = "512"
    """Size D of an embedding."""
    batch: str = "128"
    """Rows B of a step."""
    alpha: float = 1.5
    """Of Q-Margin, in [1, 2]; above 1 posteriors are sparse."""
    margin: float = 0.1
    """Of Q-Margin: a difference of cosines."""
    scale: float = 6.0
    """Of Q-Margin: logits per unit of cosine. 6 to 12 train well at alpha 1.5; at 64 the fewest classes matter."""
    state: Literal["untrained", "trained"] = "untrained"
    """Embeddings that the Q-Margin sides meet: random directions, or at cosine 0.6 with their own prototype."""
    threads: int | None = None
    """Threads of torch; those it takes by itself unless given."""
    repeats: int = 3
    """Turns of each side, of two measured steps each."""
    only: tuple[str, ...] = ()
    """Measure only the sides whose names contain one of these words, for example: --only streaming product."""
    memory: bool = True
    """Also measure peak memory: each side once more, in a process of its own (Linux)."""


def run(words: Sequence[str]) -> None:
    """Measure this machine: seconds and peak memory of a step of the heads, beside their peers and a floor."""
    if words and words[0] in PARTS:
        words = words[1:]
    elif words and not words[0].startswith("-"):
        raise ValueError(f"qmargin bench measures one of: {', '.join(PARTS)}; got {words[0]!r}")
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin bench head")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would write its stages between our lines
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    sizes = Sizes(*(parse_count(getattr(arguments, name), f"--{name}") for name in Sizes._fields))
    console = Console(soft_wrap=True)
    sides = _chosen(arguments, console)
    problem = Problem(classes=sizes.classes, dim=sizes.dim, batch=sizes.batch, alpha=arguments.alpha)
    available = available_memory()
    need = check_fits(sides, problem, available)
    console.print(
        f"largest side: {need.arithmetic()}; available {bytes_text(available)}", markup=False, highlight=False
    )
    # the children's memory before our own: both would not fit
    peaks = _peaks(sides, sizes) if arguments.memory else {}
    timings = _timings(sides, make_scene(sizes), arguments.repeats)
    console.print(_table(sides, sizes, timings, peaks))


def _chosen(arguments: Arguments, console: Console) -> list[Side]:
    loss = QMargin(arguments.alpha, arguments.margin, arguments.scale)
    sides = [*baseline_sides(), *(streaming_side("QMargin", loss, u, arguments.state) for u in ("dense", "lazy"))]
    if arguments.only:
        chosen = [side for side in sides if any(word in side.name for word in arguments.only)]
        if not chosen:
            names = "; ".join(side.name for side in sides)
            raise ValueError(f"--only {' '.join(arguments.only)} leaves no side: {names}")
        return chosen
    slow = [side.name for side in sides if side.emulated]
    if slow:
        why = "this CPU has no bfloat16 units, so they would be tens of times slower"
        console.print(f"left out: {', '.join(slow)}: {why}; --only bfloat16 measures them", highlight=False)
    return [side for side in sides if not side.emulated]


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def _peaks(sides: Sequence[Side], sizes: Sizes) -> dict[str, Peak]:
    peaks = {}
    with _progress() as progress:
        task = progress.add_task("memory", total=len(sides))
        for side in sides:
            progress.update(task, description=f"memory: {side.name}")
            peaks[side.name] = peak_of(side, sizes, torch.get_num_threads())
            progress.advance(task)
    return peaks


def _timings(sides: Sequence[Side], scene: Scene, repeats: int) -> dict[str, Timing]:
    with _progress() as progress:
        task = progress.add_task("time", total=repeats * len(sides))

        def after_turn(side: Side, timing: Timing) -> None:
            progress.update(task, advance=1, description=f"{side.name}: {timing.median:.3f} s")

        return take_turns(scene, sides, rounds=repeats, steps=2, after_turn=after_turn)


def _table(sides: Sequence[Side], sizes: Sizes, timings: dict[str, Timing], peaks: dict[str, Peak]) -> Table:
    title = f"One step at {sizes.classes:,} classes, dim {sizes.dim}, batch {sizes.batch}"
    caption = (
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; medians; memory beyond prototypes and momentum"
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("side")
    for column in ("seconds", "times dense", "peak memory", "support", "candidates"):
        table.add_column(column, justify="right")
    reference = timings[DENSE].median if DENSE in timings else None
    for side in sides:
        timing, peak = timings[side.name], peaks.get(side.name)
        table.add_row(
            side.name,
            f"{timing.median:#.3g}",
            "" if reference is None else f"{timing.median / reference:.3f}",
            "" if peak is None else bytes_text(peak.resident),
            *(f"{timing.stats[name]:.1f}" if timing.stats else "" for name in ("support_size", "candidates")),
        )
    return table
