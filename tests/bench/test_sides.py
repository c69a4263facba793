"""The standard sides have distinct names, costs of their own settings, and are refused where they do not fit."""

from dataclasses import replace

import pytest
import torch

from qmargin import QMargin
from qmargin.bench import measure, plan
from qmargin.bench.plan import Problem
from qmargin.bench.sides import (
    AUTOCAST,
    DENSE,
    FLOOR,
    FLOOR_CHUNKED,
    FLOOR_FULL,
    FLOOR_FULL_CHUNKED,
    PFC,
    PFC_HALF,
    baseline_sides,
    check_fits,
    streaming_side,
)

PROBLEM = Problem(classes=100_000, dim=512, batch=128)


def test_names_are_distinct_and_the_known_ones_are_there() -> None:
    names = [side.name for side in baseline_sides()]
    assert len(set(names)) == len(names)
    assert {DENSE, AUTOCAST, PFC, PFC_HALF, FLOOR, FLOOR_CHUNKED, FLOOR_FULL, FLOOR_FULL_CHUNKED} < set(names)


def test_sides_whose_products_the_cpu_lacks_units_for_are_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    for units in (True, False):
        monkeypatch.setattr(measure, "multiplies", lambda dtype, _device, units=units: units or dtype == torch.float32)
        emulated = {side.name for side in baseline_sides() if side.emulated}
        assert emulated == (set() if units else {AUTOCAST, PFC_HALF, FLOOR, FLOOR_CHUNKED})


def test_the_cost_is_that_of_the_sides_own_settings() -> None:
    full = {side.name: side for side in baseline_sides(rate=1.0)}["partial FC 1 float32"]
    assert full.cost(PROBLEM) == plan.partial_fc(replace(PROBLEM, rate=1.0))
    lazy = streaming_side("QMargin", QMargin(alpha=1.25), "lazy", "trained", "float32")
    assert lazy.cost(PROBLEM) == plan.streaming(replace(PROBLEM, alpha=1.25, update="lazy", precision="float32"))
    assert (lazy.name, lazy.state, lazy.scale) == ("streaming QMargin s=6 lazy, trained", "trained", 6.0)


def test_a_side_that_does_not_fit_is_refused_with_its_arithmetic() -> None:
    message = (
        "dense float32 at 100,000 classes, dim 512, batch 128 needs prototypes 205 MB .* = 1.43 GB, available are "
        "1 GB: take fewer classes, or leave that side out"
    )
    with pytest.raises(ValueError, match=message):
        check_fits(baseline_sides(), PROBLEM, 1_000_000_000)
    assert check_fits(baseline_sides(), PROBLEM, 2_000_000_000) == plan.dense(PROBLEM)
