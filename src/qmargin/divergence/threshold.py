"""The threshold tau of the posterior: the root of `sum_j q_j exp_alpha(theta_j - tau) = 1`, row by row.

It is solved for the PEAK P, the posterior of a class of unit measure at the row's largest logit `top`. With
c = P^(alpha-1) = 1 + (alpha-1)(top - tau) every posterior is a product in which nothing cancels, for any alpha:

    p_j = q_j P r_j ^ (1/(alpha-1)),      r_j = [1 + (alpha-1)(theta_j - top) / c]_+,      r_j in [0, 1]

Newton's method from the left on N(tau) = phi(tau)^(alpha-1), phi = sum_j p_j. N is a weighted norm of the excesses,
hence convex and decreasing: started at a tau whose N >= 1 the iterates rise monotonically to the root, without a
bracket. Convexity also bounds the work: from one step to the next the product of residual and slope falls at least
fourfold, so log2(classes) + log2(max q / min q)/2 + log2(1/eps)/2 steps always suffice (3 to 14 were seen).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.divergence.deformed import deformed_exp, log_deformed_exp, separation
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

    Siblings: `solve`, the posterior, which keeps its digits where many classes share the mass; `sorted_threshold`,
    the closed forms of alpha = 1.5 and 2.
    """
    top = theta.amax(dim=-1)
    return top - separation(-log_peak(theta - top.unsqueeze(-1), log_q, alpha), alpha)


def log_peak(excess: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """Log of the peak P of each row (batch,); `excess` (batch, classes) is `theta` minus its row's maximum.

    Raises:
        ValueError: as `threshold`.
    """
    log_q = excess.new_zeros(()) if log_q is None else log_q
    peak = -torch.logsumexp(excess + log_q, dim=-1) if alpha == 1.0 else _newton(excess, log_q, alpha)
    check_rows(peak.isfinite(), "logits must be finite or -inf, and one of them finite; look for NaN or an overflow")
    return peak


# More than the support of an untrained row at alpha = 1.5, scale = 6 and a million classes; topk costs a few passes.
CANDIDATES = 512


class Solution(NamedTuple):
    """The posterior of each row and what its derivatives need."""

    peak: Tensor  # (batch,) log P
    p: Tensor  # (batch, classes) posterior
    ratio: Tensor  # (batch, classes) r
    slope: Tensor  # (batch, classes) p / r, which is c dp/dtheta at a fixed tau; 0 outside the support


def solve(excess: Tensor, log_q: Tensor | None, alpha: float) -> Solution:
    """The posterior whose rows sum to 1 up to the rounding of the sum; arguments and errors as `log_peak`."""
    peak = log_peak(excess, log_q, alpha)
    p, ratio = posterior(excess, log_q, peak, alpha)
    slope = torch.where(ratio > 0.0, p / ratio, 0.0)
    # the last Newton step is taken on p: where a crowd of classes stands at the edge, the rounding of P is too coarse
    residual = (p.sum(dim=-1, keepdim=True) - 1.0) / slope.sum(dim=-1, keepdim=True)
    return Solution(peak, (p - residual * slope).clamp_min(0.0), ratio, slope)


def posterior(excess: Tensor, log_q: Tensor | None, peak: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Posteriors p and ratios r, both (batch, classes), at `peak` (batch,), a log P as `log_peak` returns it."""
    peak = peak.unsqueeze(-1)
    mass = peak if log_q is None else log_q + peak
    if alpha == 1.0:
        return (mass + excess).exp(), torch.ones_like(excess)
    x = excess * ((1.0 - alpha) * peak).exp()  # (theta - top) / c
    ratio = (1.0 + (alpha - 1.0) * x).clamp_min(0.0)
    if alpha in (1.5, 2.0):
        return mass.exp() * deformed_exp(x, alpha), ratio
    # one exponent: near alpha = 1 either of its parts alone may leave the range of a float
    return (mass + log_deformed_exp(x, alpha)).exp(), ratio


def max_steps(classes: int, dtype: torch.dtype, spread: float = 1.0) -> int:
    """Newton steps that always suffice for rows of `classes` logits; `spread` is max q / min q."""
    return math.ceil(math.log2(classes + 1) + math.log2(spread) / 2 - math.log2(torch.finfo(dtype).eps) / 2) + 1


# An operator of its own, so that torch.compile keeps the data-dependent loop out of its graph.
@torch.library.custom_op("qmargin::newton_log_peak", mutates_args=())
def _newton(excess: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """Solve each row on its largest logits; a row whose support reaches the least of them is solved on all."""
    if excess.shape[-1] <= 2 * CANDIDATES:
        return _iterate(excess, log_q, alpha)
    log_q = log_q.expand_as(excess)
    top, index = excess.topk(CANDIDATES, dim=-1, sorted=False)  # (batch, candidates)
    peak = _iterate(top, log_q.gather(-1, index), alpha)
    # More classes only raise tau, so what lies below the edge of this support lies below the edge of the row's.
    edge = 1.0 + (alpha - 1.0) * top.amin(dim=-1) * ((1.0 - alpha) * peak).exp()
    wide = (~(edge <= 0.0)).nonzero().squeeze(-1)  # also the rows with NaN
    if len(wide) > 0:
        peak[wide] = _iterate(excess[wide], log_q[wide], alpha)
    return peak


def _iterate(excess: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """Newton's method of the module docstring: log P of each row (batch,)."""
    power = alpha - 1.0
    # start where the class that leads would keep the whole mass alone: phi >= 1
    peak = (log_deformed_exp(-excess * (power * log_q).exp(), alpha) - log_q).amin(dim=-1)
    best, least = peak, torch.full_like(peak, math.inf)  # the iterate of least residual, and that residual
    for _ in range(max_steps(excess.shape[-1], excess.dtype, spread=torch.finfo(excess.dtype).max)):
        p, ratio = posterior(excess, log_q, peak, alpha)
        phi = p.sum(dim=-1)
        residual = (phi - 1.0).abs()
        better = residual < least
        if not better.any():  # a fixed point of the rounded iteration (or NaN, which the caller reports)
            break
        best, least = torch.where(better, peak, best), torch.where(better, residual, least)
        slope = torch.where(ratio > 0.0, p / ratio, 0.0)  # (batch, classes) c dp/dtheta
        total, lead = slope.sum(dim=-1), phi.pow(2.0 - alpha)
        # the step takes this share of c; where that is most of c, what it leaves is summed without a difference
        share = torch.expm1(power * phi.log()) * lead / total
        left = (lead + (slope * (1.0 - ratio)).sum(dim=-1)) / total
        peak = peak + torch.where(share < 0.5, torch.log1p(-share), left.log()) / power
    return best


@_newton.register_fake
def _(excess: Tensor, log_q: Tensor, alpha: float) -> Tensor:  # noqa: ARG001 - the signature of the operator
    return excess.new_empty(excess.shape[:-1])


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
