"""Margins: what each does to the target's cosine and measure, its shape over [-1, 1], its gradient, its refusals."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin.divergence.deformed import deformed_exp, separation
from qmargin.losses import (
    AdditiveMargin,
    AngularMargin,
    LogPriorMargin,
    Margin,
    NoMargin,
    ReferenceAngularMargin,
    ReferenceMargin,
)
from qmargin.losses.margins import shifted_cosine

ALPHAS = [1.0, 1.001, 1.25, 1.5, 2.0]
KINDS = [NoMargin, AdditiveMargin, AngularMargin, ReferenceMargin, ReferenceAngularMargin, LogPriorMargin]
STRENGTHS = [0.05, 0.5, 1.0, math.pi / 2]  # radians


def grid(points: int = 4001, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(-1, 1, points, dtype=dtype)


def target(margin: Margin, cosine: Tensor, scale: float = 8.0, alpha: float = 1.5) -> tuple[Tensor, Tensor]:
    """Cosine and log measure of the target (batch,)."""
    cosine, log_q = margin.apply(cosine, scale, alpha)
    return cosine, torch.zeros_like(cosine) if log_q is None else log_q


@pytest.mark.parametrize("alpha", ALPHAS)
def test_table_of_margins(alpha: float) -> None:
    """The table of the module's docstring, away from the ends where arccos is exact."""
    cosine, zero = grid(101)[1:-1], torch.zeros(99, dtype=torch.float64)
    angular = (cosine.arccos() + 0.2).cos().where(cosine.arccos() + 0.2 <= math.pi, cosine - (1 - math.cos(0.2)))
    rows = [
        (NoMargin(), cosine, zero),
        (AdditiveMargin(0.2), cosine - 0.2, zero),
        (AngularMargin(0.2), angular, zero),
        (ReferenceMargin(0.2), cosine, -deformed_exp(zero + 8 * 0.2, alpha).log()),
        (ReferenceAngularMargin(0.2), cosine, -deformed_exp(8 * (cosine - angular), alpha).log()),
        (LogPriorMargin(0.2), cosine, zero - 0.2),
    ]
    for margin, expected_cosine, expected_log_q in rows:
        moved, log_q = target(margin, cosine, alpha=alpha)
        torch.testing.assert_close(moved, expected_cosine)
        torch.testing.assert_close(log_q, expected_log_q)


@pytest.mark.parametrize("kind", KINDS)
def test_a_margin_of_zero_is_no_margin(kind: type[Margin]) -> None:
    cosine = grid(101)
    moved, log_q = target(kind(0.0), cosine)
    torch.testing.assert_close(moved, cosine, rtol=0, atol=1e-12)
    assert not log_q.any()


@pytest.mark.parametrize("alpha", ALPHAS)
@given(m=st.floats(0, 2), scale=st.floats(1, 64))
def test_reference_margin_means_the_same_separation_for_every_alpha(alpha: float, m: float, scale: float) -> None:
    _, log_q = target(ReferenceMargin(m), torch.zeros(1, dtype=torch.float64), scale, alpha)
    assert separation(log_q, alpha).item() == pytest.approx(scale * m, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("m", STRENGTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_angular_margin_increases_and_never_jumps(m: float, dtype: torch.dtype) -> None:
    cosine = grid(dtype=dtype)
    moved, _ = target(AngularMargin(m), cosine)
    steps = moved.diff()
    assert (steps >= -4 * torch.finfo(dtype).eps).all()
    # the steepest continuous piece is next to cos = 1, where sin(theta + m) / sin(theta) is integrated over one step
    assert steps.max() <= (cosine[1] - cosine[0]) + math.sin(m) * math.sqrt(2 * (cosine[1] - cosine[0])) + 1e-6


@pytest.mark.parametrize("m", STRENGTHS)
def test_angular_margin_continues_past_pi_with_slope_one(m: float) -> None:
    edge = -math.cos(m)
    before, at, after = (shifted_cosine(torch.tensor([x], dtype=torch.float64), m) for x in (edge + 1e-12, edge, -1.0))
    assert before.item() == pytest.approx(-1.0, abs=1e-6)
    assert at.item() == pytest.approx(-1.0, abs=1e-12)
    assert after.item() == pytest.approx(math.cos(m) - 2.0, abs=1e-12)


@pytest.mark.parametrize("m", STRENGTHS)
def test_gradient_of_the_angular_margin_is_its_finite_difference(m: float) -> None:
    inside = grid(200)[2:-2]
    cosine = inside[(inside + math.cos(m)).abs() > 1e-3].requires_grad_()  # not on the kink itself
    assert torch.autograd.gradcheck(lambda c: shifted_cosine(c, m), (cosine,))


@pytest.mark.parametrize("m", STRENGTHS)
@pytest.mark.parametrize("end", [1.0, -1.0, 1.0 + 2**-23, -1.0 - 2**-23])
def test_gradient_is_finite_and_not_negative_at_the_ends_and_just_beyond(m: float, end: float) -> None:
    cosine = torch.tensor([end], requires_grad=True)
    moved = shifted_cosine(cosine, m)
    moved.backward()  # torch's own
    assert moved.isfinite().all()
    assert cosine.grad is not None
    assert -1e-7 <= cosine.grad.item() <= 1.0


@pytest.mark.parametrize("m", STRENGTHS)
def test_insightface_compatible_turns_back_up_with_the_plain_gradient(m: float) -> None:
    cosine = grid().requires_grad_()
    moved, log_q = target(AngularMargin(m, insightface_compatible=True), cosine)
    torch.testing.assert_close(moved, (cosine.arccos() + m).cos())
    assert moved[0] > moved[1:-1].min()
    assert not log_q.any()
    assert torch.equal(torch.autograd.grad(moved.sum(), cosine)[0], torch.ones_like(cosine))


@pytest.mark.parametrize("kind", [ReferenceMargin, ReferenceAngularMargin, LogPriorMargin])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_measures_leave_the_cosine_alone_and_are_constants_of_the_gradient(kind: type[Margin], alpha: float) -> None:
    cosine = grid(101).requires_grad_()
    moved, log_q = target(kind(0.5), cosine, alpha=alpha)
    assert moved is cosine
    assert not log_q.requires_grad
    assert (log_q <= 0).all()


@pytest.mark.parametrize(
    ("kind", "upper"),
    [
        (NoMargin, "0"),
        (AdditiveMargin, "2"),
        (AngularMargin, r"1\.5708"),
        (ReferenceMargin, "2"),
        (ReferenceAngularMargin, r"1\.5708"),
        (LogPriorMargin, "50"),
    ],
)
@pytest.mark.parametrize("bad", [-0.1, 50.1, math.nan, math.inf, True, "0.1", None])
def test_refusals_name_kind_range_and_value(kind: type[Margin], upper: str, bad: Any) -> None:
    message = rf"margin m of {kind.__name__} must be a number in \[0, {upper}\], got {bad!r}"
    with pytest.raises(ValueError, match=message):
        kind(bad)
    kind(0)
