"""The deformed exponential: its definition, its limit at alpha = 1, and the inverse pair of margins and measures."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin.divergence.deformed import (
    check_alpha,
    deformed_exp,
    log_deformed_exp,
    log_reference,
    separation,
    support_reach,
)

ALPHAS = [1.0, 1.001, 1.05, 1.25, 1.5, 1.7, 2.0]


def line(low: float, high: float, steps: int = 201) -> Tensor:
    return torch.linspace(low, high, steps, dtype=torch.float64)


@pytest.mark.parametrize("alpha", ALPHAS[1:])
def test_deformed_exp_is_its_definition(alpha: float) -> None:
    x = line(-30, 10)
    definition = (1 + (alpha - 1) * x).clamp_min(0) ** (1 / (alpha - 1))
    torch.testing.assert_close(deformed_exp(x, alpha), definition, rtol=1e-10, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_deformed_exp_of_minus_infinity_is_exactly_zero(alpha: float) -> None:
    assert deformed_exp(torch.tensor([-math.inf]), alpha).item() == 0.0
    assert deformed_exp(torch.tensor([0.0]), alpha).item() == 1.0


@pytest.mark.parametrize("alpha", ALPHAS[1:])
def test_deformed_exp_is_zero_exactly_beyond_its_reach(alpha: float) -> None:
    edge = torch.tensor([-support_reach(alpha)], dtype=torch.float64)
    assert deformed_exp(edge * (1 + 1e-9), alpha).item() == 0.0
    assert log_deformed_exp(edge * (1 + 1e-9), alpha).item() == -math.inf
    assert log_deformed_exp(edge * (1 - 1e-9), alpha).item() > -math.inf


@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-7, 2.0**-52])
def test_alpha_to_1_deformed_exp_tends_to_exp_in_float32_too(step: float) -> None:
    x = line(-10, 10)
    limit = x.exp()
    # exp_alpha(x) / exp(x) = 1 - (alpha-1) x^2 / 2 + ...; float32 adds its rounding of x, 10 * 2^-24, twice
    torch.testing.assert_close(deformed_exp(x, 1 + step), limit, rtol=60 * step + 1e-12, atol=0)
    torch.testing.assert_close(deformed_exp(x.float(), 1 + step), limit.float(), rtol=60 * step + 3e-6, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
@given(x=st.floats(0, 100))
def test_separation_inverts_log_reference(alpha: float, x: float) -> None:
    margin = torch.tensor([x], dtype=torch.float64)
    torch.testing.assert_close(separation(log_reference(margin, alpha), alpha), margin, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_reference_measure_is_one_over_the_deformed_exponential(alpha: float) -> None:
    x = line(0, 20)
    torch.testing.assert_close(log_reference(x, alpha).exp() * deformed_exp(x, alpha), torch.ones_like(x))


@given(alpha=st.floats(1, 2), x=st.floats(-0.9, 5), y=st.floats(-5, 5))
def test_exponential_law_of_a_sum(alpha: float, x: float, y: float) -> None:
    """exp_alpha(x + y) = exp_alpha(x) exp_alpha(y / (1 + (alpha-1) x)): what the peak of a row is factored out with."""
    a, b = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    product = deformed_exp(a, alpha) * deformed_exp(b / (1 + (alpha - 1) * a), alpha)
    torch.testing.assert_close(deformed_exp(a + b, alpha), product, rtol=1e-9, atol=1e-12)


def test_support_reach_is_one_over_alpha_minus_one() -> None:
    assert [support_reach(alpha) for alpha in (1.0, 1.25, 1.5, 2.0)] == [math.inf, 4.0, 2.0, 1.0]


@pytest.mark.parametrize("alpha", [0.5, 3, 2.0000001, math.nan, math.inf, -1, True, "1.5", None])
def test_check_alpha_refuses_and_names_the_range(alpha: Any) -> None:
    with pytest.raises(ValueError, match=r"alpha must be a number in \[1, 2\] .* got"):
        check_alpha(alpha)


def test_check_alpha_returns_a_float() -> None:
    assert isinstance(check_alpha(2), float)
