"""The threshold: Newton against closed forms, the twin and entmax; its proven number of steps; float32; errors."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import entmax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin.divergence import reference
from qmargin.divergence.threshold import (
    CANDIDATES,
    _iterate,
    log_peak,
    max_steps,
    posterior,
    solve,
    sorted_threshold,
    threshold,
)

MODULE = importlib.import_module("qmargin.divergence.threshold")  # the package exports a function of the same name
ALPHAS = [1.0, 1.001, 1.05, 1.25, 1.5, 1.7, 2.0]
SPARSE = ALPHAS[1:]
LADDERS: dict[str, Callable[[int], Tensor]] = {  # rows on which the support shrinks slowly, and the opposite
    "ties": torch.zeros,
    "near ties": lambda n: -1e-4 * torch.arange(n) / n,
    "linear": lambda n: -torch.arange(n) / n,
    "root": lambda n: -(torch.arange(n) / n).sqrt(),
    "harmonic": lambda n: 1.0 / torch.arange(1, n + 1),
    "geometric": lambda n: -(2.0 ** -torch.arange(n)),
    "leader and crowd": lambda n: torch.cat([torch.ones(1), 1e-3 * torch.rand(n - 1)]),
    "cliff": lambda n: torch.cat([torch.zeros(n // 2), torch.full((n - n // 2,), -0.999)]),
}
row_of_logits = st.lists(st.floats(-30, 30), min_size=1, max_size=12)


def total(theta: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """Sum of the posterior (batch,), added in float64."""
    excess = theta - theta.amax(dim=-1, keepdim=True)
    return solve(excess, log_q, alpha).p.double().sum(dim=-1)


@pytest.mark.parametrize("alpha", [1.5, 2.0])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 6.0, 64.0, 1e4])
@pytest.mark.parametrize("measured", [False, True])
def test_newton_equals_the_sorted_closed_form(alpha: float, scale: float, measured: bool) -> None:
    theta = scale * torch.randn(16, 300, dtype=torch.float64)
    log_q = torch.randn(300, dtype=torch.float64) if measured else None
    torch.testing.assert_close(
        threshold(theta, log_q, alpha), sorted_threshold(theta, log_q, alpha), rtol=1e-12, atol=1e-10
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_newton_equals_the_twin_for_any_measure(alpha: float, scale: float) -> None:
    theta, log_q = scale * torch.randn(4, 50, dtype=torch.float64), 3 * torch.randn(50, dtype=torch.float64)
    expected = [reference.threshold(row.numpy(), log_q.exp().numpy(), alpha) for row in theta]
    np.testing.assert_allclose(threshold(theta, log_q, alpha).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_threshold_is_that_of_entmax(alpha: float) -> None:
    """entmax writes p = [(alpha-1) theta - t]_+ ^ (1/(alpha-1)), so t = (alpha-1) tau - 1."""
    theta = 4 * torch.randn(8, 100, dtype=torch.float64)
    p = (entmax.entmax15 if alpha == 1.5 else entmax.sparsemax)(theta, dim=-1)  # (batch, classes)
    top = theta.argmax(dim=-1, keepdim=True)
    t = (alpha - 1) * theta.gather(-1, top) - p.gather(-1, top) ** (alpha - 1)
    torch.testing.assert_close((alpha - 1) * threshold(theta, None, alpha) - 1, t.squeeze(-1))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("classes", [1, 1000, 100_000])
def test_posterior_sums_to_one_in_float32(alpha: float, ladder: str, classes: int) -> None:
    """Also where 100,000 classes share the mass and 1 + (alpha-1)(theta - tau) would have no digits left."""
    theta = LADDERS[ladder](classes).float().unsqueeze(0)
    assert total(theta, None, alpha).item() == pytest.approx(1.0, abs=1e-6)


def test_posterior_of_twenty_million_ties_sums_to_one_in_float32() -> None:
    """One Newton step shrinks c by 1 / classes, which is below the rounding of 1 - 1/classes."""
    assert total(torch.zeros(1, 20_000_000), None, 2.0).item() == pytest.approx(1.0, abs=3e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 6.0, 64.0, 1e4])
def test_posterior_sums_to_one_for_any_scale_shift_and_measure(alpha: float, scale: float) -> None:
    theta, log_q = scale * torch.randn(4, 2000), 2 * torch.randn(2000)
    for logits in (theta, theta + 1000 * scale):
        torch.testing.assert_close(total(logits, log_q, alpha), torch.ones(4, dtype=torch.float64), rtol=0, atol=2e-6)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry with every evaluation of the posterior inside the solver."""
    log: list[int] = []

    def logged(*arguments: Any) -> tuple[Tensor, Tensor]:
        log.append(1)
        return posterior(*arguments)

    monkeypatch.setattr(MODULE, "posterior", logged)
    return log


@pytest.mark.parametrize("alpha", SPARSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("classes", [2, 50, 3000])
def test_steps_stay_within_the_proven_bound(
    alpha: float, dtype: torch.dtype, ladder: str, classes: int, evaluations: list[int]
) -> None:
    threshold(LADDERS[ladder](classes).to(dtype).unsqueeze(0), None, alpha)
    assert 2 <= len(evaluations) <= max_steps(classes, dtype) + 2  # one at the start, one to see the end


@pytest.mark.parametrize("alpha", SPARSE)
@pytest.mark.parametrize("spread", [1e3, 1e12])
def test_steps_stay_within_the_bound_of_a_spread_measure(alpha: float, spread: float, evaluations: list[int]) -> None:
    log_q = torch.linspace(0, math.log(spread), 500, dtype=torch.float64)
    for sign in (-1, 1):  # the rarest class leads, or the most frequent one
        evaluations.clear()
        threshold(sign * torch.linspace(0, 20, 500, dtype=torch.float64).unsqueeze(0), log_q, alpha)
        assert len(evaluations) <= max_steps(500, torch.float64, spread) + 2


@pytest.mark.parametrize("alpha", ALPHAS)
def test_float32_threshold_is_the_float64_one_rounded(alpha: float) -> None:
    theta = 6 * torch.randn(16, 500)
    truth = threshold(theta.double(), None, alpha)
    torch.testing.assert_close(threshold(theta, None, alpha).double(), truth, rtol=3e-7, atol=1e-6)


@given(alpha=st.floats(1, 2), row=row_of_logits, shift=st.floats(-100, 100))
def test_threshold_moves_with_the_logits(alpha: float, row: list[float], shift: float) -> None:
    theta = torch.tensor([row], dtype=torch.float64)
    torch.testing.assert_close(
        threshold(theta + shift, None, alpha), threshold(theta, None, alpha) + shift, rtol=0, atol=1e-9
    )


@given(alpha=st.floats(1, 2), row=row_of_logits, kept=st.integers(1, 12))
def test_threshold_of_a_subset_is_a_lower_bound(alpha: float, row: list[float], kept: int) -> None:
    """What makes streaming over chunks of classes exact."""
    theta = torch.tensor([row], dtype=torch.float64)
    assert threshold(theta[:, :kept], None, alpha) <= threshold(theta, None, alpha) + 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
def test_masking_a_class_is_removing_it(alpha: float) -> None:
    theta = torch.randn(4, 6)
    masked = torch.cat([theta, torch.full((4, 3), -math.inf)], dim=1)
    torch.testing.assert_close(threshold(masked, None, alpha), threshold(theta, None, alpha), rtol=0, atol=1e-6)
    if alpha in (1.5, 2.0):
        torch.testing.assert_close(sorted_threshold(masked, None, alpha), sorted_threshold(theta, None, alpha))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_named(alpha: float, bad: float) -> None:
    theta = torch.zeros(3, 4)
    theta[1, 2] = bad
    with pytest.raises(ValueError, match=r"row 1 of 3 .*logits must be finite or -inf"):
        threshold(theta, None, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_row_with_every_class_masked_is_named(alpha: float) -> None:
    theta = torch.zeros(3, 4)
    theta[2] = -math.inf
    with pytest.raises(ValueError, match=r"row 2 of 3 .*one of them finite"):
        threshold(theta, None, alpha)


def test_closed_forms_refuse_other_alphas() -> None:
    with pytest.raises(ValueError, match=r"closed forms exist for alpha = 1\.5 and 2, got 1\.7; use threshold\(\)"):
        sorted_threshold(torch.zeros(1, 2), None, 1.7)


def test_newton_is_a_lawful_torch_operator() -> None:
    """Schema, fake kernel and tracing agree with the implementation."""
    excess = torch.tensor([[0.0, -1.0, -2.0], [0.0, 0.0, -0.5]])
    torch.library.opcheck(torch.ops.qmargin.newton_log_peak.default, (excess, torch.zeros(3), 1.5))


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0])
def test_solving_on_the_largest_logits_equals_solving_on_all(alpha: float) -> None:
    """Rows from one class in the support to all of them, so that some are solved again on every class."""
    classes = 3 * CANDIDATES + 7
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([100.0, 10.0, 1.0, 0.1, 0.0], dtype=torch.float64).unsqueeze(-1)
    excess = spread * torch.randn(5, classes, dtype=torch.float64, generator=generator)  # (batch, classes)
    excess = excess - excess.amax(dim=-1, keepdim=True)
    log_q = torch.randn(5, classes, dtype=torch.float64, generator=generator)
    for measure in (torch.zeros((), dtype=torch.float64), log_q):
        whole = _iterate(excess, measure, alpha)
        support = (posterior(excess, measure, whole, alpha)[0] > 0.0).sum(dim=-1)
        assert support[0] < CANDIDATES < support[-1]
        torch.testing.assert_close(log_peak(excess, measure, alpha), whole, rtol=1e-12, atol=1e-12)
