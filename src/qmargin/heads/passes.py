"""Passes over all classes that find the threshold of each row without keeping its logits.

alpha = 1 takes one pass, a running logsumexp. For alpha > 1 the threshold is estimated from a sample of the classes and
corrected by passes that add up, at the current tau,

    phi = sum q x^r,   x = [1 + (alpha-1)(theta - tau)]_+,   r = 1/(alpha-1),   and its first two derivatives,

each followed by Halley's step on phi^(alpha-1) = 1 (an almost linear function; cubic convergence). The first passes run
on the low-precision copy. The last one is exact, and what it summed is carried over its own small step by its Taylor
series, so that no pass is spent on confirming it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.divergence.deformed import separation
from qmargin.divergence.threshold import threshold
from qmargin.heads.chunks import Chunk
from qmargin.heads.shadow import Shadow

SAMPLE = 4096  # classes the first estimate rests on
ROUGH = 0.03  # relative error of phi above which a pass need not be exact
PASSES = 60  # three or four are usual


class Problem(NamedTuple):
    """Rows to be solved over all classes."""

    directions: Tensor  # (rows, dim)
    weight: Tensor  # (classes, dim)
    shadow: Shadow
    chunks: list[Chunk]  # with the labels of these rows
    theta_target: Tensor  # (rows,) after the margin
    log_q_target: Tensor  # (rows,)
    log_base: Tensor | None  # (classes,)
    scale: float
    alpha: float


class Solved(NamedTuple):
    """The threshold of each row and sums over the classes other than its label; all (rows,)."""

    reference: Tensor  # tau is reference + step: theta - reference keeps the digits that theta - tau would lose
    step: Tensor
    others: Tensor  # sum of p
    rest: Tensor  # sum of p [1 + (alpha-1)(theta - tau)]
    support: Tensor  # int64, classes with p > 0
    largest: Tensor  # largest cosine


def cosines_by_chunk(problem: Problem, *, low: bool = False) -> Iterator[tuple[Chunk, Tensor]]:
    """Cosines (chunk, rows) of every chunk, in one buffer; those of the labels are -inf."""
    shadow = problem.shadow
    source = shadow.rows if low and shadow.rows is not None else problem.weight
    directions = problem.directions.to(source.dtype).T.contiguous()  # (dim, rows)
    longest = max(chunk.size for chunk in problem.chunks)
    buffer = source.new_empty(longest, directions.shape[1])
    for chunk in problem.chunks:
        cosines = torch.mm(source[chunk.first : chunk.last], directions, out=buffer[: chunk.size])
        if source is problem.weight:
            cosines.mul_(shadow.inverse_norm[chunk.first : chunk.last].unsqueeze(1))
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
    own = problem.theta_target + problem.log_q_target
    others = torch.sigmoid(total - own)
    every = torch.full_like(total, len(problem.weight), dtype=torch.int64)
    return Solved(torch.logaddexp(total, own), torch.zeros_like(own), others, others, every, largest)


def find_thresholds(problem: Problem) -> Solved:
    """Solve alpha > 1: the root tau of phi of each row."""
    alpha = problem.alpha
    reference = _estimate(problem)
    step = torch.zeros_like(reference)
    # the first term of the series left out: third order, and second where p meets 0 with a slope (alpha = 2)
    order = min(3.0, 1.0 + 1.0 / (alpha - 1.0))
    enough = torch.finfo(reference.dtype).eps ** (1.0 / order)
    low = problem.shadow.rows is not None
    for _ in range(PASSES):
        sums, support, largest = _sum_up(problem, reference, step, low=low)
        own = _powers(problem.theta_target - reference - step, problem.log_q_target, alpha)
        phi, slope, bend, _ = (sums + own).unbind()
        lost = ~((slope > 0.0) & slope.isfinite())  # beyond every logit; a class alone is where to start again
        start = _alone(problem, largest) - reference - step
        move = torch.where(lost, start, _step(phi, slope, bend, alpha))
        error = float(torch.where(lost, torch.inf, (move * slope / phi).abs()).amax())  # the only host read of a pass
        step = step + move
        if not low and error <= enough:
            break
        low = low and ROUGH < error < torch.inf
    others, first, second, rest = sums.unbind()  # of the classes other than the label, before the last move
    return Solved(
        reference,
        step,
        (others - first * move + (2.0 - alpha) / 2.0 * second * move.square()).clamp_min(0.0),
        (rest - alpha * (others * move - first * move.square() / 2.0)).clamp_min(0.0),
        support + (own[0] > 0.0),
        largest,
    )


def _estimate(problem: Problem) -> Tensor:
    """The threshold of the label and an even sample of the classes, each of which stands for all it skips."""
    stride = -(-len(problem.weight) // SAMPLE)
    cosines = problem.directions @ problem.weight[::stride].T * problem.shadow.inverse_norm[::stride]  # (rows, sample)
    log_q = cosines.new_full(cosines.shape[1:], float(stride)).log()
    if problem.log_base is not None:
        log_q = log_q + problem.log_base[::stride]
    theta = torch.cat([problem.theta_target.unsqueeze(1), problem.scale * cosines], dim=1)
    weights = torch.cat([problem.log_q_target.unsqueeze(1), log_q.expand_as(cosines)], dim=1)
    return threshold(theta, weights, problem.alpha)


def _sum_up(problem: Problem, reference: Tensor, step: Tensor, *, low: bool) -> tuple[Tensor, Tensor, Tensor]:
    """`_powers` summed over the classes other than the label (4, rows), their support and largest cosine."""
    sums = reference.new_zeros(4, len(reference), dtype=torch.float64)
    support = torch.zeros_like(reference, dtype=torch.int64)
    largest = torch.full_like(reference, -torch.inf)
    for chunk, cosines in cosines_by_chunk(problem, low=low):
        exact = cosines.to(reference.dtype)
        largest = torch.maximum(largest, exact.amax(dim=0))
        gap = exact.mul_(problem.scale).sub_(reference).sub_(step)
        log_q = None if problem.log_base is None else problem.log_base[chunk.first : chunk.last].unsqueeze(1)
        powers = _powers(gap, log_q, problem.alpha)
        sums += powers.sum(dim=1)
        support += powers[1].count_nonzero(dim=0)
    return sums.to(reference.dtype), support, largest


def _powers(gap: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """`q x^r`, `q x^(r-1)`, `q x^(r-2)` and `q x^(r+1)` of gaps theta - tau, stacked; 0 outside the support."""
    x = (1.0 + (alpha - 1.0) * gap).clamp_min(0.0)
    lowest = torch.where(x > 0.0, x.pow(1.0 / (alpha - 1.0) - 2.0), 0.0)
    if log_q is not None:
        lowest = lowest * log_q.exp()
    first = lowest * x
    zeroth = first * x
    return torch.stack([zeroth, first, lowest, zeroth * x])


def _alone(problem: Problem, largest: Tensor) -> Tensor:
    """A lower bound of tau (rows,): the label alone, or the class of the largest cosine alone."""
    least = 0.0 if problem.log_base is None else problem.log_base.amin()
    others = problem.scale * largest - separation(problem.theta_target.new_zeros(()) + least, problem.alpha)
    return torch.maximum(problem.theta_target - separation(problem.log_q_target, problem.alpha), others)


def _step(phi: Tensor, slope: Tensor, bend: Tensor, alpha: float) -> Tensor:
    """Halley's step on f = phi^(alpha-1) - 1, with phi' = -slope and phi'' = (2-alpha) bend; far away, Newton's."""
    lead = phi.pow(alpha - 1.0)
    value = lead - 1.0
    first = -(alpha - 1.0) * lead / phi * slope
    second = (alpha - 1.0) * (2.0 - alpha) * lead / phi * (bend - slope.square() / phi)
    correction = value * second / first.square()
    return -value / first / (1.0 - torch.where(correction.abs() < 0.5, correction, 0.0) / 2.0)
