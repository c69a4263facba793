"""The threshold tau of the posterior: the root of `sum_j q_j exp_alpha(theta_j - tau) = 1`, row by row.

Newton's method from the left on N(tau) = phi(tau)^(alpha - 1), phi(tau) = sum_j q_j exp_alpha(theta_j - tau). N is a
weighted norm of the excesses, hence convex and decreasing: started at a tau whose N >= 1 the iterates rise
monotonically to the root, without a bracket. Convexity also bounds the work: from one step to the next the product of
residual and slope falls at least fourfold, so log2(classes) + log2(1/eps)/2 steps always suffice (3 to 8 are usual).
"""

import math

import torch
from torch import Tensor

from qmargin.divergence.deformed import deformed_exp, deformed_exp_slope, separation
from qmargin.divergence.inputs import check_rows


def threshold(theta: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """Threshold of each row: the tau with `sum_j q_j exp_alpha(theta_j - tau) = 1`. Not differentiable by itself.

    Args:
        theta: logits (batch, classes), float32 or float64; -inf masks a class.
        log_q: log reference measure, broadcastable to `theta`; None is the unit measure.
        alpha: in [1, 2]; at 1 this is logsumexp(theta + log q).

    Returns:
        tau (batch,), dtype of `theta`.

    Raises:
        ValueError: a row holds NaN or +inf, or nothing but -inf.

    Example:
        >>> threshold(torch.tensor([[2.0, 1.0, -5.0]]), None, alpha=2.0)
        tensor([2.])

    Sibling: `sorted_threshold`, the closed forms of alpha = 1.5 and 2.
    """
    if alpha == 1.0:
        tau = torch.logsumexp(theta if log_q is None else theta + log_q, dim=-1)
    else:
        tau = _newton(theta, theta.new_zeros(()) if log_q is None else log_q, alpha)
    check_rows(tau.isfinite(), "logits must be finite or -inf, and one of them finite; look for NaN or an overflow")
    return tau


def max_steps(classes: int, dtype: torch.dtype) -> int:
    """Newton steps that always suffice for rows of `classes` logits."""
    return math.ceil(math.log2(classes + 1) - math.log2(torch.finfo(dtype).eps) / 2) + 1


# An operator of its own, so that torch.compile keeps the data-dependent loop out of its graph.
@torch.library.custom_op("qmargin::newton_threshold", mutates_args=())
def _newton(theta: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    q = log_q.exp()
    start = (theta - separation(log_q, alpha)).amax(dim=-1)  # the largest single-class threshold: phi(start) >= 1
    excess = theta - start.unsqueeze(-1)
    rise = torch.zeros_like(start)  # tau - start, small: it keeps its digits whatever the size of the logits
    for _ in range(max_steps(theta.shape[-1], theta.dtype)):
        weight = deformed_exp(excess - rise.unsqueeze(-1), alpha)
        phi = (q * weight).sum(dim=-1)
        slope = (q * deformed_exp_slope(weight, alpha)).sum(dim=-1)
        # (N - 1) / |N'| with N = phi^(alpha-1); expm1 keeps the digits of N - 1 near the root
        step = torch.expm1((alpha - 1.0) * phi.log()) / (alpha - 1.0) * phi.pow(2.0 - alpha) / slope
        higher = rise + step.clamp_min(0.0)
        if not (higher > rise).any():  # a fixed point of the rounded iteration (or NaN, which the caller reports)
            break
        rise = higher
    return start + rise


@_newton.register_fake
def _(theta: Tensor, log_q: Tensor, alpha: float) -> Tensor:  # noqa: ARG001 - the signature of the operator
    return theta.new_empty(theta.shape[:-1])


def sorted_threshold(theta: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """Threshold of each row in closed form, for alpha = 1.5 and 2 only: sort, prefix sums, last consistent prefix.

    With z = (alpha - 1) theta in descending order, prefix sums Q = sum q, and t = (alpha - 1) tau - 1:

        alpha = 2:    t = (sum q z - 1) / Q
        alpha = 1.5:  mu = sum q z / Q,  ss = sum q z^2 - Q mu^2,  t = mu - sqrt((1 - ss) / Q)

    Arguments and returns as `threshold`; cost O(classes log classes), no iteration. References: Held, Wolfe and
    Crowder 1974 (alpha = 2); Peters, Niculae and Martins 2019 (alpha = 1.5); here with a reference measure.
    """
    if alpha not in (1.5, 2.0):
        raise ValueError(
            f"closed forms exist for alpha = 1.5 and 2, got {alpha}; use threshold(), which takes any alpha"
        )
    top = theta.amax(dim=-1, keepdim=True)
    z, order = ((alpha - 1.0) * (theta - top)).sort(dim=-1, descending=True)
    q = (torch.ones_like(z) if log_q is None else log_q.exp().expand_as(z)).gather(-1, order)
    z = z.clamp_min(-(torch.finfo(z.dtype).max ** 0.25))  # -inf masks: keep the prefix sums finite
    mass, first = q.cumsum(-1), (q * z).cumsum(-1)
    if alpha == 2.0:
        t = (first - 1.0) / mass
    else:
        mean = first / mass
        scatter = (q * z.square()).cumsum(-1) - mass * mean.square()
        t = mean - ((1.0 - scatter) / mass).clamp_min(0.0).sqrt()
    last = (z > t).sum(dim=-1, keepdim=True).clamp_min(1) - 1
    return ((t.gather(-1, last) + 1.0) / (alpha - 1.0) + top).squeeze(-1)
