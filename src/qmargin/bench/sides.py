"""The sides that need nothing but this package, by the names the tables use, and the check that they fit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from qmargin.bench import plan
from qmargin.bench.contenders import Contender, PartialFC, PlainArcFace, Product, WithHead, arcface
from qmargin.bench.measure import Side
from qmargin.bench.plan import Cost, Problem
from qmargin.bench.quantities import bytes_text
from qmargin.bench.scene import STATES, Scene
from qmargin.heads import DenseHead, StreamingHead
from qmargin.heads.products import Precision, screening_precision
from qmargin.losses import AlphaLoss

CHUNK = 4096  # classes a product, of the chunked floor
DENSE, AUTOCAST, PFC, PFC_HALF, FLOOR = (
    "dense float32",
    "dense bfloat16 autocast",
    "partial FC 0.1 float32",
    "partial FC 0.1 bfloat16 autocast",
    "bfloat16 product",
)
FLOOR_CHUNKED = "bfloat16 product in chunks"
FLOOR_FULL, FLOOR_FULL_CHUNKED = "float32 product", "float32 product in chunks"
STREAMING_ARCFACE = "streaming ArcFace s=64 dense, untrained"


def baseline_sides(scale: float = 64.0, rate: float = 0.1) -> list[Side]:
    """ArcFace as others compute it, and the floor; their cost depends neither on the data nor on the scale.

    Args:
        scale: of ArcFace.
        rate: of Partial FC.
    """

    def side(
        name: str, make: Callable[[Scene], Contender], cost: Callable[[Problem], Cost], dtype: torch.dtype
    ) -> Side:
        return Side(name, make, cost, STATES[0], scale, dtype)

    sides = [
        side(DENSE, partial(WithHead, kind=DenseHead, loss=arcface(scale)), plan.dense, torch.float32),
        side(AUTOCAST, partial(PlainArcFace, scale=scale, autocast=True), plan.dense_autocast, torch.bfloat16),
    ]
    for autocast, precision in ((False, "float32"), (True, "bfloat16 autocast")):
        make = partial(PartialFC, scale=scale, rate=rate, autocast=autocast)
        dtype = torch.bfloat16 if autocast else torch.float32
        sides.append(side(f"partial FC {rate:g} {precision}", make, partial(_partial_fc, rate=rate), dtype))
    for name, chunk in ((FLOOR, None), (FLOOR_CHUNKED, CHUNK)):
        sides.append(side(name, partial(Product, chunk=chunk), plan.product, torch.bfloat16))
    for name, chunk in ((FLOOR_FULL, None), (FLOOR_FULL_CHUNKED, CHUNK)):
        full = partial(Product, dtype=torch.float32, chunk=chunk)
        sides.append(side(name, full, partial(plan.product, name="float32"), torch.float32))
    return [*sides, streaming_side("ArcFace", arcface(scale), "dense", STATES[0])]


def streaming_side(name: str, loss: AlphaLoss, update: str, state: str, precision: Precision = "auto") -> Side:
    """`StreamingHead` with a loss, e.g. `streaming QMargin s=64 lazy, trained`.

    Args:
        name: of the loss.
        loss: any row of the family.
        update: "dense" or "lazy".
        state: of training, one of `qmargin.bench.scene.STATES`.
        precision: of the screening.
    """
    used = screening_precision(precision, torch.device("cpu"))
    cost = partial(_streaming, alpha=loss.alpha, update=update, precision=used)
    make = partial(WithHead, kind=StreamingHead, loss=loss, update=update, precision=precision)
    title = f"streaming {name} s={loss.scale:g} {update}, {state}"
    return Side(title, make, cost, state, loss.scale)


def _partial_fc(problem: Problem, rate: float) -> Cost:
    return plan.partial_fc(replace(problem, rate=rate))


def _streaming(problem: Problem, alpha: float, update: str, precision: str) -> Cost:
    return plan.streaming(replace(problem, alpha=alpha, update=update, precision=precision))  # type: ignore[arg-type] # Problem checks them


def check_fits(sides: Sequence[Side], problem: Problem, available: int) -> Cost:
    """The largest need of any side (one lives at a time).

    Args:
        sides: to be measured.
        problem: their size.
        available: bytes.

    Raises:
        ValueError: a side would not fit; the message has its arithmetic.
    """
    worst = max(((side, side.cost(problem)) for side in sides), key=lambda pair: pair[1].total)
    side, cost = worst
    if cost.total > available:
        raise ValueError(
            f"{side.name} at {problem.classes:,} classes, dim {problem.dim}, batch {problem.batch} needs "
            f"{cost.arithmetic()}, available are {bytes_text(available)}: take fewer classes, or leave that side out"
        )
    return cost
