"""The deformed exponential, the one function that makes every alpha a member of the same family.

    exp_alpha(x) = [1 + (alpha - 1) x]_+ ^ (1 / (alpha - 1)),        exp_1(x) = exp(x)

The posterior is q exp_alpha(theta - tau), the reference measure of a margin x is 1 / exp_alpha(x), and the derivative
is exp_alpha'(x) = exp_alpha(x) ^ (2 - alpha) where exp_alpha(x) > 0.
"""

import math

import torch
from torch import Tensor

from qmargin.divergence.inputs import is_number


def check_alpha(alpha: float) -> float:
    """Return `alpha` as a float, or raise a ValueError that names the range."""
    if not (is_number(alpha) and 1.0 <= alpha <= 2.0):
        raise ValueError(
            f"alpha must be a number in [1, 2] (1: softmax, 1.5: entmax, 2: sparsemax), got {alpha!r}; "
            "below 1 the posterior is not sparse, above 2 the threshold equation is no longer convex"
        )
    return float(alpha)


def deformed_exp(x: Tensor, alpha: float) -> Tensor:
    """Deformed exponential `[1 + (alpha - 1) x]_+ ^ (1 / (alpha - 1))`, elementwise.

    Near alpha = 1 the power is taken as exp(log1p((alpha - 1) x) / (alpha - 1)), which tends to exp(x) without losing
    digits; alpha = 1.5 and 2 need no logarithm.

    Args:
        x: any shape, floating point; -inf gives 0 for every alpha.
        alpha: in [1, 2].

    Returns:
        Same shape and dtype as `x`, >= 0.

    Example:
        >>> deformed_exp(torch.tensor([-2.0, 0.0, 1.0]), alpha=1.5)
        tensor([0.0000, 1.0000, 2.2500])

    Reference: Naudts, "Deformed exponentials and logarithms in generalized thermostatistics", 2002.
    """
    if alpha == 1.0:
        return x.exp()
    if alpha == 2.0:
        return (1.0 + x).clamp_min(0.0)
    if alpha == 1.5:
        return (1.0 + 0.5 * x).clamp_min(0.0).square()
    inside = ((alpha - 1.0) * x).add_(1.0).clamp_min_(0.0).sign_()
    return unmasked_power(x, 1.0 / (alpha - 1.0), alpha).mul_(inside)


def unmasked_power(x: Tensor, exponent: float, alpha: float) -> Tensor:
    """`[1 + (alpha - 1) x]_+ ^ exponent`, elementwise, held above about 1e-34 (1e-277 in float64), or eps ^ exponent.

    Results that are not normal numbers are many times slower on a CPU, and wide rows are full of them. Whoever needs
    zeros outside the support masks them.
    """
    limits = torch.finfo(x.dtype)
    least = max(limits.eps, limits.tiny ** (0.9 / max(exponent, 1.0)))
    return ((alpha - 1.0) * x).clamp_min_(least - 1.0).log1p_().mul_(exponent).exp_()


def log_deformed_exp(x: Tensor, alpha: float) -> Tensor:
    """Logarithm of `deformed_exp`, `log1p((alpha - 1) x) / (alpha - 1)`: `x` at alpha = 1, -inf outside the support."""
    if alpha == 1.0:
        return x
    return torch.log1p(((alpha - 1.0) * x).clamp_min(-1.0)) / (alpha - 1.0)


def log_reference(x: Tensor, alpha: float) -> Tensor:
    """Log of the reference measure of a margin `x` >= 0 (in logit units): `-log exp_alpha(x)`; `-x` at alpha = 1."""
    return -log_deformed_exp(x, alpha)


def separation(log_q: Tensor, alpha: float) -> Tensor:
    """Inverse of `log_reference`: the margin `(q^(1 - alpha) - 1) / (alpha - 1)` of a measure; `-log q` at alpha = 1.

    A class with measure q keeps the whole posterior iff its logit leads all others by 1/(alpha-1) plus this margin.
    """
    if alpha == 1.0:
        return -log_q
    return torch.expm1((1.0 - alpha) * log_q) / (alpha - 1.0)


def support_reach(alpha: float) -> float:
    """How far below the threshold a logit may lie and still be in the support: 1/(alpha - 1), infinite at alpha = 1."""
    return math.inf if alpha == 1.0 else 1.0 / (alpha - 1.0)
