"""The slow twin itself: cases computed by hand, and the definition maximised numerically without its solution."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from qmargin.divergence import reference

ALPHAS = [1.0, 1.001, 1.05, 1.25, 1.5, 1.7, 2.0]
ONE = np.ones(2)


@pytest.mark.parametrize(
    ("alpha", "theta", "q", "expected"),
    [
        (2.0, [1.0, 0.5, -2.0], [1.0, 1.0, 1.0], [0.75, 0.25, 0.0]),  # tau = 1.25
        (2.0, [0.0, 0.0], [0.25, 1.0], [0.2, 0.8]),  # q (1 - tau) sums to 1 at tau = 0.2
        (1.5, [0.0, 0.0], [1.0, 1.0], [0.5, 0.5]),
        (1.5, [2.0, 0.0], [1.0, 1.0], [1.0, 0.0]),  # a lead of 1/(alpha-1) = 2 is exactly enough
        (1.0, [np.log(3.0), 0.0], [1.0, 1.0], [0.75, 0.25]),
        (1.0, [0.0, 0.0], [1.0, 3.0], [0.25, 0.75]),  # log q is a shift of the logit
    ],
)
def test_posterior_by_hand(alpha: float, theta: list[float], q: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(reference.softargmax(np.array(theta), np.array(q), alpha), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("alpha", "theta", "label", "q", "expected"),
    [
        (2.0, [1.0, 0.5, -2.0], 0, [1.0, 1.0, 1.0], 0.0625),  # |p - e_y|^2 / 2
        (2.0, [1.0, 0.5, -2.0], 1, [1.0, 1.0, 1.0], 0.5625),
        (2.0, [0.0, 0.0], 0, [0.25, 1.0], 1.6),  # D(e_y|q) - D(p|q) = 1.625 - 0.025
        (1.5, [0.0, 0.0], 0, [1.0, 1.0], (1 - np.sqrt(0.5)) / 0.75),
        (1.5, [2.0, 0.0], 0, [1.0, 1.0], 0.0),
        (1.0, [np.log(3.0), 0.0], 0, [1.0, 1.0], np.log(4.0 / 3.0)),
    ],
)
def test_loss_by_hand(alpha: float, theta: list[float], label: int, q: list[float], expected: float) -> None:
    assert reference.loss(np.array(theta), label, np.array(q), alpha) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_generator_is_a_divergence_generator(alpha: float) -> None:
    """f(1) = f'(1) = 0 and f''(1) = 1 > 0; f(0) = 1/alpha."""
    h = 1e-4
    low, one, high = (float(reference.f(np.array([u]), alpha)[0]) for u in (1 - h, 1.0, 1 + h))
    assert one == pytest.approx(0, abs=1e-12)
    assert (high - low) / (2 * h) == pytest.approx(0, abs=1e-6)
    assert (high - 2 * one + low) / h**2 == pytest.approx(1, abs=1e-4)
    assert float(reference.f(np.zeros(1), alpha)[0]) == pytest.approx(1 / alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("seed", range(3))
def test_posterior_and_smax_are_the_numerical_maximum_over_the_simplex(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta, q = rng.normal(size=4), np.exp(rng.normal(size=4))  # (classes,)

    def minus_objective(p: reference.Floats) -> float:
        return reference.divergence(np.maximum(p, 0), q, alpha) - float(p @ theta)

    simplex = LinearConstraint(np.ones((1, 4)), 1, 1)
    best = minimize(
        minus_objective, np.full(4, 0.25), method="SLSQP", bounds=[(0, 1)] * 4, constraints=simplex,
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    # the objective is flat where it is largest: its place is known to the root of what its value is, on any processor
    np.testing.assert_allclose(reference.softargmax(theta, q, alpha), best.x, atol=2e-5)
    smax = reference.loss(theta, 1, q, alpha) - reference.divergence(np.eye(4)[1], q, alpha) + theta[1]
    assert smax == pytest.approx(-best.fun, abs=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_is_the_finite_difference_of_the_loss(alpha: float) -> None:
    rng = np.random.default_rng(0)
    theta, q, h = rng.normal(size=5), np.exp(rng.normal(size=5)), 1e-6
    steps = [
        (reference.loss(theta + h * axis, 2, q, alpha) - reference.loss(theta - h * axis, 2, q, alpha)) / (2 * h)
        for axis in np.eye(5)
    ]
    np.testing.assert_allclose(reference.gradient(theta, 2, q, alpha), steps, atol=1e-6)
