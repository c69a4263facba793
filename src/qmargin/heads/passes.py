"""Passes over all classes that find the threshold of each row without keeping its logits.

alpha = 1 takes one pass, a running logsumexp. For alpha > 1 the threshold is estimated from a sample of the classes and
corrected by passes that add up, at the current tau,

    phi = sum q x^r,   x = [1 + (alpha-1)(theta - tau)]_+,   r = 1/(alpha-1),   and its first three derivatives,

each followed by a step to the root of their Taylor series, or from afar by Newton's on phi^(alpha-1) = 1, an almost
linear function. The first passes run on the low-precision copy. The last one is exact, and what it summed is carried
over its own small step by the same series, so that no pass is spent on confirming it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.divergence.deformed import deformed_exp, separation, unmasked_power
from qmargin.heads.chunks import Chunk
from qmargin.heads.products import ChunkProducts
from qmargin.heads.ranks import ALONE, Ranks

SAMPLE, SAMPLE_SHARE, SAMPLE_MOST = 8192, 8, 65536  # classes the first estimate rests on: an eighth, within bounds
SAMPLE_STEPS = 5  # Newton's, from far left; what they leave is less than what the sample leaves
ROUGH = (
    0.45  # relative error of phi above which the next pass need not be exact: about its cube is what the step leaves
)
LEFT = 8.0  # units of rounding that a series may leave: its coefficients are far below 1
PASSES = 60  # two or three are usual
SERIES = 10  # passes after which Newton's step takes over: it never leaves the convex side, so it always arrives
NEWTON, ROUGHLY, EXACTLY = range(-1, 1), range(-2, 1), range(-3, 2)  # powers of x, from r on, that are added up
EDGE = 1.5  # alpha from which x is measured from the edge of the support, where x = 0


class Problem(NamedTuple):
    """Rows to be solved over all classes."""

    directions: Tensor  # (rows, dim)
    weight: Tensor  # (classes, dim)
    rows: Tensor | None  # their directions in low precision (classes, dim)
    inverse_norm: Tensor  # (classes,)
    chunks: list[Chunk]  # with the labels of these rows
    theta_target: Tensor  # (rows,) after the margin
    log_q_target: Tensor  # (rows,)
    log_base: Tensor | None  # (classes,)
    scale: float
    alpha: float
    classes: int  # of all ranks
    ranks: Ranks = ALONE  # that have the other classes, where `weight` holds only some


class Sums(NamedTuple):
    """What a pass adds up over the classes other than the label, at the current tau."""

    powers: Tensor  # (5, rows) of `q x^k` for k from r - 3 to r + 1
    support: Tensor  # (rows,) int64, classes with x > 0
    largest: Tensor  # (rows,) cosine
    near: Tensor  # (rows,) measure of the classes whose |x| is within the width that was asked for
    lead: Tensor  # (rows,) the step to where one class alone would have posterior 1: never beyond the root


class Solved(NamedTuple):
    """The threshold of each row and sums over the classes other than its label; all (rows,)."""

    reference: Tensor  # `origin` lies at reference + step: theta - reference keeps the digits theta - tau would lose
    step: Tensor
    others: Tensor  # sum of p
    rest: Tensor  # sum of p [1 + (alpha-1)(theta - tau)]
    support: Tensor  # int64, classes with p > 0
    largest: Tensor  # largest cosine


def cosines_by_chunk(problem: Problem, *, low: bool = False) -> Iterator[tuple[Chunk, Tensor]]:
    """Cosines (chunk, rows) of every chunk, in one buffer; those of the labels are -inf."""
    source = problem.rows if low and problem.rows is not None else problem.weight
    products = ChunkProducts(source, problem.directions, max(chunk.size for chunk in problem.chunks))
    for chunk in problem.chunks:
        cosines = products.into_buffer(chunk.first, chunk.last)
        if source is problem.weight:
            cosines.mul_(problem.inverse_norm[chunk.first : chunk.last].unsqueeze(1))
        if chunk.own is not None:
            cosines[chunk.own] = -torch.inf
        yield chunk, cosines


def log_sum_exp(problem: Problem) -> Solved:
    """Solve alpha = 1: tau = logsumexp(theta + log q) of each row."""
    total = torch.full_like(problem.theta_target, -torch.inf)
    largest = total
    for chunk, cosines in cosines_by_chunk(problem):
        largest = torch.maximum(largest, cosines.amax(dim=0))
        theta = cosines.mul_(problem.scale)
        if problem.log_base is not None:
            theta.add_(problem.log_base[chunk.first : chunk.last].unsqueeze(1))
        total = torch.logaddexp(total, theta.logsumexp(dim=0))
    total, largest = problem.ranks.log_total(total), problem.ranks.largest(largest)
    own = problem.theta_target + problem.log_q_target
    others = torch.sigmoid(total - own)
    every = torch.full_like(total, problem.classes, dtype=torch.int64)
    return Solved(torch.logaddexp(total, own), torch.zeros_like(own), others, others, every, largest)


def origin(alpha: float) -> float:
    """Where a row's logits are measured from, as tau - origin.

    With thousands of classes in a support x is small, and 1 + (alpha-1)(theta - tau) would lose its digits: from the
    edge of the support, tau - 1/(alpha-1), it is a product. Near alpha = 1 the edge is far away and tau itself is used.
    """
    return 1.0 / (alpha - 1.0) if alpha >= EDGE else 0.0


def posteriors(gap: Tensor, alpha: float) -> Tensor:
    """`exp_alpha(theta - tau)` of gaps theta - (tau - origin)."""
    if alpha >= EDGE:
        return ((alpha - 1.0) * gap).clamp_min(0.0).pow(1.0 / (alpha - 1.0))
    return deformed_exp(gap, alpha)


def find_thresholds(problem: Problem) -> Solved:
    """Solve alpha > 1: the root tau of phi of each row."""
    alpha = problem.alpha
    reference = _estimate(problem) - origin(alpha)
    step, move = torch.zeros_like(reference), torch.zeros_like(reference)
    # the first term of the series left out: fourth order, or less where p meets 0 less smoothly (second at alpha = 2)
    order = min(4.0, 1.0 + 1.0 / (alpha - 1.0))
    eps = torch.finfo(reference.dtype).eps
    low = problem.rows is not None
    # of tau by low precision: far below what its rounding can move one logit
    doubt = problem.scale * torch.finfo(problem.rows.dtype).eps / 8.0 if problem.rows is not None else 0.0
    for number in range(PASSES):
        width = (alpha - 1.0) * (move.abs() + doubt)
        sums = _sum_up(problem, reference, step, width, low=low)
        at_label = problem.theta_target - reference - step
        own = [power.clone() for power in _powers(at_label, problem.log_q_target, alpha, EXACTLY)]
        third, bend, slope, phi, _ = (sums.powers + torch.stack(own)).unbind()
        lost = ~((slope > 0.0) & slope.isfinite())  # beyond every logit
        lead = torch.maximum(sums.lead, at_label - _own_gap(problem.log_q_target, alpha))
        move = _step(phi, slope, bend, third, alpha, series=number < SERIES)
        move = torch.where(lost, lead, torch.maximum(move, lead))  # the root is never below
        error = torch.where(lost, torch.inf, torch.maximum((move * slope / phi).abs(), (phi - 1.0).abs()))
        # the series says nothing of classes that enter or leave the support during the move, each with at most |dx|^r
        dx = (alpha - 1.0) * move.abs()
        unsafe = (error > eps) & ((dx > width) | (sums.near * dx.pow(1.0 / (alpha - 1.0)) > 8.0 * eps))
        decision = problem.ranks.largest(torch.stack([error.amax(), unsafe.any().to(error.dtype)]))
        worst, again = decision.tolist()  # the only host read
        step = step + move
        # Newton's steps that do not get smaller any more are rounding
        if not low and worst <= (LEFT * eps) ** (1.0 / order) and (not again or number > 2 * SERIES):
            break
        doubt = doubt if low else 0.0
        low = low and ROUGH < worst < torch.inf and number < SERIES
    else:
        raise ValueError(
            f"the threshold of a row did not settle within {PASSES} passes (an error of {worst:.1e} is left): logits "
            "or the base measure span too many orders of magnitude for their precision; use float64 prototypes"
        )
    # of the classes other than the label, before the last move
    third, second, first, others, rest = sums.powers.unbind()
    lost_rest = move * (others - move / 2.0 * (first - (2.0 - alpha) / 3.0 * move * second))
    return Solved(
        reference,
        step,
        _moved(others, first, second, third, move, alpha).clamp_min(0.0),
        (rest - alpha * lost_rest).clamp_min(0.0),
        sums.support + (own[3] > 0.0),
        sums.largest,
    )


def _estimate(problem: Problem) -> Tensor:
    """About the threshold of the label and an even sample of the classes, each of which stands for all it skips."""
    alpha, classes = problem.alpha, len(problem.weight)
    stride = -(-classes // min(max(classes // SAMPLE_SHARE, SAMPLE), SAMPLE_MOST))
    source = problem.weight if problem.rows is None else problem.rows
    sample = source[::stride]
    theta = ChunkProducts(sample, problem.directions, len(sample)).into_buffer(0, len(sample))
    theta = theta.to(problem.theta_target.dtype)  # (sample, rows)
    if source is problem.weight:
        theta.mul_(problem.inverse_norm[::stride].unsqueeze(1))
    theta.mul_(problem.scale)
    log_q = theta.new_full((1, 1), float(stride)).log()
    if problem.log_base is not None:
        log_q = log_q + problem.log_base[::stride].unsqueeze(1)
    own_log_q = problem.log_q_target
    # start where the class that leads would have the whole mass alone, and stay left of the root
    lead = problem.ranks.largest((theta - _own_gap(log_q, alpha)).amax(dim=0))
    tau = torch.maximum(lead, problem.theta_target - _own_gap(own_log_q, alpha))
    for _ in range(SAMPLE_STEPS):
        powers = [power.sum(dim=0) for power in _powers(theta - tau, log_q, alpha, NEWTON)]
        slope, phi = problem.ranks.total(torch.stack(powers)).unbind()
        own_slope, own_phi = (power.clone() for power in _powers(problem.theta_target - tau, own_log_q, alpha, NEWTON))
        tau = tau + _far_step(phi + own_phi, slope + own_slope, alpha).nan_to_num(nan=0.0)
    return tau + origin(alpha)


def _sum_up(problem: Problem, reference: Tensor, step: Tensor, width: Tensor, *, low: bool) -> Sums:
    """Sums over the classes other than the label, of each row.

    Those of a pass in low precision only prepare the next one: what that does not read is 0.
    """
    alpha, orders = problem.alpha, ROUGHLY if low else EXACTLY
    sums = reference.new_zeros(5, len(reference), dtype=torch.float64)
    support, near = torch.zeros_like(reference), torch.zeros_like(reference)
    largest = lead = torch.full_like(reference, -torch.inf)
    for chunk, cosines in cosines_by_chunk(problem, low=low):
        exact = cosines.to(reference.dtype)
        largest = torch.maximum(largest, exact.amax(dim=0))
        gap = exact.mul_(problem.scale).sub_(reference).sub_(step)
        log_q = None if problem.log_base is None else problem.log_base[chunk.first : chunk.last].unsqueeze(1)
        if log_q is not None:
            lead = torch.maximum(lead, (gap - _own_gap(log_q, alpha)).amax(dim=0))
        if not low:
            x = _excess(gap, alpha)
            support += (x > 0.0).sum(dim=0)
            edge = (x.abs_() <= width).to(x.dtype)
            near += edge.sum(dim=0) if log_q is None else (edge * log_q.exp()).sum(dim=0)
        for order, power in zip(orders, _powers(gap, log_q, alpha, orders), strict=True):
            sums[order - EXACTLY[0]] += power.sum(dim=0)
    if problem.log_base is None:
        lead = problem.scale * largest - reference - step - _own_gap(torch.zeros_like(step), alpha)
    sums = problem.ranks.total(torch.cat([sums, torch.stack([support, near])]))  # (7, rows) float64
    largest, lead = problem.ranks.largest(torch.stack([largest, lead])).unbind()
    return Sums(sums[:5].to(reference.dtype), sums[5].long(), largest, sums[6].to(reference.dtype), lead)


def _excess(gap: Tensor, alpha: float) -> Tensor:
    """Of gaps theta - (tau - origin): x, negative outside the support."""
    x = (alpha - 1.0) * gap
    return x if alpha >= EDGE else x.add_(1.0)


def _powers(gap: Tensor, log_q: Tensor | None, alpha: float, orders: range) -> Iterator[Tensor]:
    """`q x^(r + order)` of gaps, order by order, at least from -3 on; 0 outside the support.

    Each power takes the memory of the one before. From alpha = 1.5 on, where a third derivative is 0 or does not exist,
    that of r - 3 is 0.
    """
    x = _excess(gap, alpha)
    if alpha >= EDGE and orders[0] == -3:
        yield x.new_zeros(()).expand_as(x)
        orders = orders[1:]
    lowest = 1.0 / (alpha - 1.0) + orders[0]
    if lowest > 1.0:  # hence alpha < EDGE; outside the support it is far below what a float sum notices, not 0
        power = unmasked_power(gap, lowest, alpha)
        x.clamp_min_(0.0)
    else:
        inside = x.clamp_min_(0.0).sign()
        power = inside if lowest == 0.0 else x.clamp_min(torch.finfo(x.dtype).eps ** 2).pow_(lowest).mul_(inside)
    if log_q is not None:
        power.mul_(log_q.exp())
    yield power
    for _ in orders[1:]:
        yield power.mul_(x)


def _own_gap(log_q: Tensor, alpha: float) -> Tensor:
    """The gap theta - (tau - origin) at which a class of measure q alone has posterior 1."""
    return ((1.0 - alpha) * log_q).exp() / (alpha - 1.0) if alpha >= EDGE else separation(log_q, alpha)


def _step(phi: Tensor, slope: Tensor, bend: Tensor, third: Tensor, alpha: float, *, series: bool) -> Tensor:
    """To the root of the Taylor series of phi where that is near, else Newton's step on phi^(alpha-1); all (rows,)."""
    far = near = _far_step(phi, slope, alpha)
    for _ in range(4 if series else 0):
        change = -slope + (2.0 - alpha) * near * (bend - (3.0 - 2.0 * alpha) / 2.0 * near * third)
        near = near - (_moved(phi, slope, bend, third, near, alpha) - 1.0) / change
    return torch.where(((far * slope / phi).abs() < 0.5) & ((near - far).abs() < far.abs()), near, far)


def _far_step(phi: Tensor, slope: Tensor, alpha: float) -> Tensor:
    """Newton's step on phi^(alpha-1): from the left it never passes the root."""
    return (phi - phi.pow(2.0 - alpha)) / ((alpha - 1.0) * slope)


def _moved(phi: Tensor, slope: Tensor, bend: Tensor, third: Tensor, move: Tensor, alpha: float) -> Tensor:
    """Taylor series of phi at tau + move; its derivatives are -slope, (2-alpha) bend, -(2-alpha)(3-2 alpha) third."""
    curve = (2.0 - alpha) / 2.0 * (bend - (3.0 - 2.0 * alpha) / 3.0 * move * third)
    return phi - move * (slope - move * curve)
