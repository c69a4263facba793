"""Ramps and scheduled losses: where they start, where they end, that they never leave the family."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.losses import AlphaLoss, ArcFace, NormFace, QMargin, Ramp, ReferenceMargin, ScheduledLoss

progress = st.floats(0, 1)


@pytest.mark.parametrize(
    ("at", "value"), [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.75, 3.0), (1.0, 3.0)], ids=lambda x: f"{x:g}"
)
def test_ramp_is_a_straight_line_between_two_constants(at: float, value: float) -> None:
    assert Ramp(start=1.0, begin=0.25, end=0.75).value(at, final=3.0) == pytest.approx(value)


@given(start=st.floats(-100, 100), final=st.floats(-100, 100), pair=st.tuples(progress, progress))
def test_ramp_is_monotone_and_between_its_ends(start: float, final: float, pair: tuple[float, float]) -> None:
    ramp = Ramp(start=start, begin=0.2, end=0.9)
    early, late = (ramp.value(at, final) for at in sorted(pair))
    assert (late - early) * (final - start) >= 0
    assert min(start, final) <= early <= max(start, final)


@given(start=st.floats(-100, 100), final=st.floats(-100, 100), end=st.floats(0.1, 1))
def test_ramp_ends_exactly(start: float, final: float, end: float) -> None:
    ramp = Ramp(start=start, end=end)
    assert ramp.value(0.0, final) == start
    assert ramp.value(end, final) == final
    assert ramp.value(1.0, final) == final


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": math.nan}, "a ramp starts at a finite value, got nan"),
        ({"start": math.inf}, "a ramp starts at a finite value, got inf"),
        ({"start": 1.0, "begin": 0.5, "end": 0.5}, r"0 <= begin < end <= 1 .* got 0\.5 to 0\.5"),
        ({"start": 1.0, "begin": -0.1}, r"0 <= begin < end <= 1 .* got -0\.1 to 1\.0"),
        ({"start": 1.0, "end": 1.5}, r"0 <= begin < end <= 1 .* got 0\.0 to 1\.5"),
        ({"start": 1.0, "end": math.nan}, "0 <= begin < end <= 1 .* got 0.0 to nan"),
    ],
)
def test_ramp_refuses_and_names_the_law(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ramp(**arguments)


@given(at=progress)
def test_without_ramps_the_loss_is_the_final_one_throughout(at: float) -> None:
    assert ScheduledLoss(name="arcface", final=ArcFace()).at(at) == ArcFace()


def test_every_ramp_moves_its_own_value_only() -> None:
    final = QMargin(alpha=1.5, margin=0.2, scale=8.0)
    alpha, scale, margin = Ramp(start=1.0), Ramp(start=16.0, end=0.5), Ramp(start=0.0, begin=0.5)
    loss = ScheduledLoss(name="all", final=final, alpha=alpha, scale=scale, margin=margin)
    assert loss.at(0.0) == QMargin(alpha=1.0, margin=0.0, scale=16.0)
    assert loss.at(0.5) == QMargin(alpha=1.25, margin=0.0, scale=8.0)
    assert loss.at(1.0) == final


@given(at=progress, start=st.floats(1, 2), margin=st.floats(0, 2), scale=st.floats(1, 64))
def test_every_step_of_a_schedule_is_a_loss_of_the_family(at: float, start: float, margin: float, scale: float) -> None:
    loss = ScheduledLoss(
        name="any", final=QMargin(), alpha=Ramp(start=start), scale=Ramp(start=scale), margin=Ramp(start=margin)
    )
    step = loss.at(at)
    assert isinstance(step, AlphaLoss)
    assert isinstance(step.margin, ReferenceMargin)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "a loss needs a name"),
        ({"alpha": Ramp(start=0.5)}, r"alpha must be a number in \[1, 2\] .* got 0\.5"),
        ({"alpha": Ramp(start=3.0, begin=0.5)}, r"alpha must be a number in \[1, 2\] .* got 3\.0"),
        ({"scale": Ramp(start=0.0)}, "scale must be a finite number > 0"),
        ({"margin": Ramp(start=-0.1)}, r"margin m of ReferenceMargin must be a number in \[0, 2\], got -0\.1"),
        ({"final": NormFace(), "margin": Ramp(start=0.1)}, r"margin m of NoMargin must be a number in \[0, 0\]"),
    ],
)
def test_scheduled_loss_refuses_schedules_that_leave_the_family(arguments: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"name": "qmargin", "final": QMargin()}
    with pytest.raises(ValueError, match=message):
        ScheduledLoss(**(valid | arguments))
