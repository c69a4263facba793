"""The posterior: the twin, entmax, the laws of shift, order, sparsity and measure, its Jacobian, its refusals."""

import math

import entmax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin import softargmax
from qmargin.divergence import reference

ALPHAS = [1.0, 1.001, 1.05, 1.25, 1.5, 1.7, 2.0]
logits = st.lists(st.floats(-30, 30), min_size=1, max_size=12)
alphas = st.floats(1, 2)


def row(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 6.0, 64.0, 1e4])
def test_posterior_equals_the_twin(alpha: float, scale: float) -> None:
    theta = scale * torch.randn(5, 40, dtype=torch.float64)
    q = torch.randn(5, 40, dtype=torch.float64).exp()
    expected = [reference.softargmax(t.numpy(), m.numpy(), alpha) for t, m in zip(theta, q, strict=True)]
    np.testing.assert_allclose(softargmax(theta, q, alpha).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.7])
def test_posterior_of_the_unit_measure_is_entmax_by_bisection(alpha: float) -> None:
    theta = 3 * torch.randn(8, 50, dtype=torch.float64)
    torch.testing.assert_close(softargmax(theta, alpha=alpha), entmax.entmax_bisect(theta, alpha, n_iter=100))


def test_posterior_of_the_unit_measure_is_softmax_entmax15_and_sparsemax() -> None:
    theta = 3 * torch.randn(8, 50, dtype=torch.float64)
    torch.testing.assert_close(softargmax(theta, alpha=1.0), theta.softmax(-1))
    torch.testing.assert_close(softargmax(theta, alpha=1.5), entmax.entmax15(theta, dim=-1))
    torch.testing.assert_close(softargmax(theta, alpha=2.0), entmax.sparsemax(theta, dim=-1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_jacobian_in_logits_and_measure(alpha: float) -> None:
    theta = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    q = torch.rand(3, 5, dtype=torch.float64).add(0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, m: softargmax(t, m, alpha), (theta, q))
    assert torch.autograd.gradcheck(lambda t, m: softargmax(t, m, alpha), (theta, q[0].detach().requires_grad_()))


@given(alpha=alphas, values=logits, shift=st.floats(-100, 100))
def test_shift_invariance(alpha: float, values: list[float], shift: float) -> None:
    theta = row(values)
    torch.testing.assert_close(
        softargmax(theta + shift, alpha=alpha), softargmax(theta, alpha=alpha), atol=1e-9, rtol=0
    )


@given(alpha=alphas, values=logits, data=st.data())
def test_permutation_equivariance(alpha: float, values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    theta = row(values)
    torch.testing.assert_close(softargmax(theta[order], alpha=alpha), softargmax(theta, alpha=alpha)[order])


@given(alpha=alphas, values=logits)
def test_posterior_is_a_distribution_in_the_order_of_the_logits(alpha: float, values: list[float]) -> None:
    theta = row(values)
    p = softargmax(theta, alpha=alpha)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert (p[theta.argsort()].diff() >= 0).all()


@given(values=logits, pair=st.tuples(alphas, alphas))
def test_support_shrinks_as_alpha_grows(values: list[float], pair: tuple[float, float]) -> None:
    """For the unit measure; with another one the law holds only where p_j <= e^(1/(alpha-1)) q_j."""
    softer, sharper = (softargmax(row(values), alpha=alpha) > 0 for alpha in sorted(pair))
    assert (softer | ~sharper).all()


@given(alpha=alphas, values=logits, factor=st.floats(1e-3, 1e3))
def test_a_factor_on_the_measure_is_a_scale_on_the_logits(alpha: float, values: list[float], factor: float) -> None:
    """p(theta; c q) = p(c^(alpha-1) theta; q): at alpha = 1 a constant measure does nothing at all."""
    theta = row(values)
    q = torch.linspace(0.5, 2.0, len(values), dtype=torch.float64)
    torch.testing.assert_close(
        softargmax(theta, factor * q, alpha), softargmax(factor ** (alpha - 1) * theta, q, alpha), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_leading_dimensions_and_half_precision(alpha: float) -> None:
    theta = torch.randn(2, 3, 7)
    p = softargmax(theta, alpha=alpha)
    assert p.shape == theta.shape
    torch.testing.assert_close(p[1, 2], softargmax(theta[1, 2], alpha=alpha))
    half = softargmax(theta.bfloat16(), alpha=alpha)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, softargmax(theta.bfloat16().float(), alpha=alpha), rtol=0, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_masked_class_has_no_mass_and_no_gradient(alpha: float) -> None:
    theta = torch.tensor([[1.0, 0.5, -math.inf]], requires_grad=True)
    p = softargmax(theta, alpha=alpha)
    assert p[0, 2].item() == 0.0
    p[0, 0].backward()
    assert theta.grad is not None
    assert theta.grad.isfinite().all()
    assert theta.grad[0, 2].item() == 0.0


def test_one_class_has_all_mass() -> None:
    for alpha in ALPHAS:
        assert softargmax(torch.tensor([[-7.0]]), alpha=alpha).item() == 1.0


def test_refusals() -> None:
    theta = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"alpha must be a number in \[1, 2\]"):
        softargmax(theta, alpha=2.5)
    with pytest.raises(ValueError, match=r"theta must be floating point \(\.\.\., classes\), got torch\.int64"):
        softargmax(theta.long())
    with pytest.raises(ValueError, match="reference measure q must be finite and > 0, got a minimum of 0"):
        softargmax(theta, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"q \(2,\) does not broadcast to theta \(2, 3\)"):
        softargmax(theta, torch.ones(2))
    with pytest.raises(ValueError, match=r"row 1 of 2 .*logits must be finite or -inf"):
        softargmax(torch.tensor([[0.0, 1.0], [0.0, math.nan]]))
