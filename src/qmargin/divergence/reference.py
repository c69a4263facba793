"""The slow, obviously right twin of this folder: float64 numpy, one row at a time, written as in the paper.

No shift, no support, no closed form: scipy finds the root of the definition. Tests compare every fast path with it.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]


def f(u: Floats, alpha: float) -> Floats:
    """Generator of the divergence: `(u^alpha - 1 - alpha (u - 1)) / (alpha (alpha - 1))`, `u log u - u + 1` at 1."""
    if alpha == 1.0:
        return np.where(u > 0, u * np.log(np.where(u > 0, u, 1.0)), 0.0) - u + 1.0
    return np.asarray((u**alpha - 1.0 - alpha * (u - 1.0)) / (alpha * (alpha - 1.0)))


def divergence(p: Floats, q: Floats, alpha: float) -> float:
    """`D(p | q) = sum_j q_j f(p_j / q_j)`; p and q (classes,)."""
    return float(np.sum(q * f(p / q, alpha)))


def posterior_at(theta: Floats, q: Floats, tau: float, alpha: float) -> Floats:
    """`q_j [1 + (alpha - 1)(theta_j - tau)]_+ ^ (1 / (alpha - 1))`, (classes,); sums to one at the right tau only."""
    if alpha == 1.0:
        weight: Floats = np.exp(theta - tau)
    else:
        weight = np.maximum(1.0 + (alpha - 1.0) * (theta - tau), 0.0) ** (1.0 / (alpha - 1.0))
    return np.multiply(q, weight)


def threshold(theta: Floats, q: Floats, alpha: float) -> float:
    """The tau with `sum_j p_j = 1`, between the thresholds of the best single class and of `classes` copies of it."""
    if alpha == 1.0:
        top = float(np.max(theta))
        return top + math.log(np.sum(q * np.exp(theta - top)))
    best = float(np.max(theta - (q ** (1.0 - alpha) - 1.0) / (alpha - 1.0)))
    worst = float(np.max(theta)) - ((q.sum()) ** (1.0 - alpha) - 1.0) / (alpha - 1.0)

    def excess(tau: float) -> float:
        return float(posterior_at(theta, q, tau, alpha).sum()) - 1.0

    if excess(best) <= 0.0:
        return best
    return float(brentq(excess, best, max(worst, best) + 1e-9, xtol=1e-14, rtol=1e-15))


def softargmax(theta: Floats, q: Floats, alpha: float) -> Floats:
    """Posterior of one row (classes,)."""
    return posterior_at(theta, q, threshold(theta, q, alpha), alpha)


def loss(theta: Floats, label: int, q: Floats, alpha: float) -> float:
    """`smax(theta; q) + D(e_y | q) - theta_y` of one row, every term over every class."""
    p = softargmax(theta, q, alpha)
    target = np.eye(len(theta))[label]
    return float(p @ theta) - divergence(p, q, alpha) + divergence(target, q, alpha) - float(theta[label])


def gradient(theta: Floats, label: int, q: Floats, alpha: float) -> Floats:
    """`p - e_y` of one row (classes,)."""
    step: Floats = softargmax(theta, q, alpha) - np.eye(len(theta))[label]
    return step
