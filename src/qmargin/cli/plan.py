"""`qmargin plan --classes N --dim D --batch B --device-memory 80GB`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from qmargin.bench.plan import Cost, Problem, dense, largest_classes, partial_fc, streaming
from qmargin.bench.quantities import bytes_text, operations_text, parse_bytes, parse_count

HEADS = (dense, partial_fc, streaming)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Will this head fit into that memory, and what will a step cost? By formula; nothing is allocated.

    The answer is for the head alone: prototypes, momentum and everything that exists at the peak of a step. The
    backbone comes on top. docs/planning.md explains each term; tests compare them with measured peaks.

    Example: qmargin plan --classes 2e6 --dim 512 --batch 1024 --device-memory 80GB
    """

    classes: str
    """Number of identities C, for example 2e6 or 93_431."""
    device_memory: str
    """Memory of the device, with its unit: 80GB (powers of 1000) or 24GiB (powers of 1024)."""
    dim: str = "512"
    """Size D of an embedding."""
    batch: str = "128"
    """Rows B of a step on this device."""
    optimizer: Literal["momentum", "none"] = "momentum"
    """Whether SGD keeps a momentum for every prototype: as much memory as the prototypes."""
    alpha: float = 1.5
    """Of the loss, in [1, 2]: above 1 the streaming head screens classes away, at 1 it streams all."""
    support: float = 100.0
    """Mean number of classes with p > 0 in a row: `support_size` in the log of a run. Falls during training."""
    rate: float = 0.1
    """Share of the classes that Partial FC draws for a step."""
    update: Literal["dense", "lazy"] = "dense"
    """How the streaming head's optimizer moves prototypes: all as SGD does, or only rows with a gradient."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the streaming head's screening: bfloat16 keeps a copy of half the prototypes' size, float32 none. GPUs and
    CPUs with AVX512-BF16 or AMX are fastest with the first, other CPUs with the second."""


def run(words: Sequence[str]) -> None:
    """Will it fit, what will it cost: memory, operations and traffic of dense, Partial FC and streaming heads."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin plan")
    memory = parse_bytes(arguments.device_memory, "--device-memory")
    problem = Problem(
        classes=parse_count(arguments.classes, "--classes"),
        dim=parse_count(arguments.dim, "--dim"),
        batch=parse_count(arguments.batch, "--batch"),
        alpha=arguments.alpha,
        support=arguments.support,
        momentum=arguments.optimizer == "momentum",
        rate=arguments.rate,
        update=arguments.update,
        precision=arguments.precision,
    )
    costs = [(head(problem), largest_classes(head, problem, memory)) for head in HEADS]
    console = Console(soft_wrap=True)
    console.print(_table(problem, costs, memory))
    for cost, _ in costs:
        console.print(f"{cost.head}: {cost.arithmetic()}", style="dim", markup=False, highlight=False)


def _table(problem: Problem, costs: Sequence[tuple[Cost, int]], memory: int) -> Table:
    title = f"{problem.classes:,} classes, dim {problem.dim}, batch {problem.batch}, on {bytes_text(memory)}"
    caption = (
        f"partial FC draws {problem.rate:.0%} of the classes (approximate); streaming at alpha {problem.alpha:g}, "
        f"update {problem.update}, support {problem.support:g}"
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("head")
    for column in ("fits", "memory", "beyond W and momentum", "operations", "traffic", "most classes that fit"):
        table.add_column(column, justify="right")
    for cost, most in costs:
        table.add_row(
            cost.head,
            "yes" if cost.total <= memory else "[bold red]no[/]",
            bytes_text(cost.total),
            bytes_text(cost.beyond),
            operations_text(cost.flops),
            bytes_text(cost.traffic),
            f"{most:,}",
        )
    return table
