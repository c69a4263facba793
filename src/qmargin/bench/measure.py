"""Seconds of a step: sides take turns, so that what else the machine does falls on all of them; medians.

Only one side lives at a time, because at a million classes two would not fit: a turn builds the side on the shared
prototypes, warms it up with one step, measures a few, and takes it down.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from qmargin.bench.contenders import Contender
from qmargin.bench.plan import Cost, Problem
from qmargin.bench.scene import Scene
from qmargin.heads.products import multiplies

PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::matmul", "aten::linear", "aten::bmm", "aten::addmm_"})
LABEL = "qmargin::"
PARTS = ("product", "screen", "rescore", "solve", "backward", "update", "other")


@dataclass(frozen=True)
class Side:
    """A named contender, how to build it, and the state of training it meets."""

    name: str
    make: Callable[[Scene], Contender]  # of the top level of a module, or a partial of it: child processes import it
    cost: Callable[[Problem], Cost]  # by formula, likewise
    state: str = "untrained"
    scale: float = 64.0
    dtype: torch.dtype = torch.float32  # of its products

    @property
    def emulated(self) -> bool:
        """Whether the CPU has no units for its products: torch then computes them tens of times slower."""
        return not multiplies(self.dtype, torch.device("cpu"))


@dataclass
class Timing:
    """What turns of one side measured."""

    seconds: list[float] = field(default_factory=list)
    stats: dict[str, float] = field(default_factory=dict)  # of the last step

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)


def take_turns(
    scene: Scene,
    sides: Sequence[Side],
    *,
    rounds: int,
    steps: int,
    after_turn: Callable[[Side, Timing], None] = lambda _side, _timing: None,
) -> dict[str, Timing]:
    """Timing of each side by name; every round gives every side one turn of `steps` measured steps.

    Args:
        scene: prototypes and batches.
        sides: with distinct names.
        rounds: turns of each side, >= 1.
        steps: measured steps of a turn, >= 1; one more warms up.
        after_turn: called with the side and what it has measured so far.
    """
    timings = {side.name: Timing() for side in sides}
    assert len(timings) == len(sides), "two sides have one name"
    for number in range(rounds):
        for side in sides:
            timing = timings[side.name]
            _turn(scene, side, timing, steps, first=number * (steps + 1))
            after_turn(side, timing)
    return timings


def _turn(scene: Scene, side: Side, timing: Timing, steps: int, first: int) -> None:
    batches = scene.batches[side.state]
    contender = side.make(scene)
    for step in range(steps + 1):
        batch = batches[(first + step) % len(batches)]
        began = time.perf_counter()
        contender.step(batch)
        if step > 0:
            timing.seconds.append(time.perf_counter() - began)
    timing.stats = contender.stats()
    del contender
    release_gradients(scene)


def release_gradients(scene: Scene) -> None:
    """Give back what the last side left on the batches."""
    for batches in scene.batches.values():
        for batch in batches:
            batch.embeddings.grad = None
    gc.collect()


def time_split(scene: Scene, side: Side) -> dict[str, float]:
    """Seconds of one warm step by part (`PARTS`), from torch's profiler and the labels `qmargin::...` of the head.

    An operator's own time counts for the innermost label around it; matrix products within screening count as
    "product"; what stands in no label is "other". The profiler slows small steps down: read the shares.
    """
    contender = side.make(scene)
    batches = scene.batches[side.state]
    contender.step(batches[0])
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        contender.step(batches[1])
    split = dict.fromkeys(PARTS, 0.0)
    for event in profiler.events() or []:
        split[_part(event)] += event.self_cpu_time_total / 1e6
    del contender
    release_gradients(scene)
    return split


def _part(event: Any) -> str:  # noqa: ANN401 - torch's FunctionEvent
    product = False
    while event is not None:
        product = product or event.name in PRODUCTS
        label: str = event.name.removeprefix(LABEL)
        if label != event.name and label in PARTS:  # the operators of this package have names of the same kind
            return "product" if product and label == "screen" else label
        event = event.cpu_parent
    return "other"
