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

from qmargin.divergence.deformed import excess_power, separation
from qmargin.divergence.threshold import threshold
from qmargin.heads.chunks import Chunk

SAMPLE = 8192  # classes the first estimate rests on
ROUGH = 0.16  # relative error of phi above which the next pass need not be exact: its cube is what the step leaves
PASSES = 60  # two or three are usual


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
    source = problem.rows if low and problem.rows is not None else problem.weight
    directions = problem.directions.to(source.dtype).T.contiguous()  # (dim, rows)
    longest = max(chunk.size for chunk in problem.chunks)
    buffer = source.new_empty(longest, directions.shape[1])
    for chunk in problem.chunks:
        cosines = torch.mm(source[chunk.first : chunk.last], directions, out=buffer[: chunk.size])
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
    own = problem.theta_target + problem.log_q_target
    others = torch.sigmoid(total - own)
    every = torch.full_like(total, len(problem.weight), dtype=torch.int64)
    return Solved(torch.logaddexp(total, own), torch.zeros_like(own), others, others, every, largest)


def find_thresholds(problem: Problem) -> Solved:
    """Solve alpha > 1: the root tau of phi of each row."""
    alpha = problem.alpha
    reference = _estimate(problem)
    step = torch.zeros_like(reference)
    # the first term of the series left out: fourth order, or less where p meets 0 less smoothly (second at alpha = 2)
    order = min(4.0, 1.0 + 1.0 / (alpha - 1.0))
    enough = torch.finfo(reference.dtype).eps ** (1.0 / order)
    low = problem.rows is not None
    for _ in range(PASSES):
        sums, support, largest = _sum_up(problem, reference, step, low=low)
        own = [power.clone() for power in _powers(problem.theta_target - reference - step, problem.log_q_target, alpha)]
        third, bend, slope, phi, _ = (sums + torch.stack(own)).unbind()
        lost = ~((slope > 0.0) & slope.isfinite())  # beyond every logit; a class alone is where to start again
        start = _alone(problem, largest) - reference - step
        move = torch.where(lost, start, _step(phi, slope, bend, third, alpha))
        error = float(torch.where(lost, torch.inf, (move * slope / phi).abs()).amax())  # the only host read of a pass
        step = step + move
        if not low and error <= enough:
            break
        low = low and ROUGH < error < torch.inf
    third, second, first, others, rest = sums.unbind()  # of the classes other than the label, before the last move
    lost_rest = move * (others - move / 2.0 * (first - (2.0 - alpha) / 3.0 * move * second))
    return Solved(
        reference,
        step,
        _moved(others, first, second, third, move, alpha).clamp_min(0.0),
        (rest - alpha * lost_rest).clamp_min(0.0),
        support + (own[3] > 0.0),
        largest,
    )


def _estimate(problem: Problem) -> Tensor:
    """The threshold of the label and an even sample of the classes, each of which stands for all it skips."""
    stride = -(-len(problem.weight) // SAMPLE)
    cosines = problem.directions @ problem.weight[::stride].T * problem.inverse_norm[::stride]  # (rows, sample)
    log_q = cosines.new_full(cosines.shape[1:], float(stride)).log()
    if problem.log_base is not None:
        log_q = log_q + problem.log_base[::stride]
    theta = torch.cat([problem.theta_target.unsqueeze(1), problem.scale * cosines], dim=1)
    weights = torch.cat([problem.log_q_target.unsqueeze(1), log_q.expand_as(cosines)], dim=1)
    return threshold(theta, weights, problem.alpha)


def _sum_up(problem: Problem, reference: Tensor, step: Tensor, *, low: bool) -> tuple[Tensor, Tensor, Tensor]:
    """`_powers` summed over the classes other than the label (5, rows), their support and largest cosine."""
    sums = reference.new_zeros(5, len(reference), dtype=torch.float64)
    support = torch.zeros_like(reference)
    largest = torch.full_like(reference, -torch.inf)
    for chunk, cosines in cosines_by_chunk(problem, low=low):
        exact = cosines.to(reference.dtype)
        largest = torch.maximum(largest, exact.amax(dim=0))
        gap = exact.mul_(problem.scale).sub_(reference).sub_(step)
        log_q = None if problem.log_base is None else problem.log_base[chunk.first : chunk.last].unsqueeze(1)
        for order, power in enumerate(_powers(gap, log_q, problem.alpha)):
            sums[order] += power.sum(dim=0)
        support += power.sign().sum(dim=0)
    return sums.to(reference.dtype), support.long(), largest


def _powers(gap: Tensor, log_q: Tensor | None, alpha: float) -> Iterator[Tensor]:
    """`q x^k` of gaps theta - tau for k = r-3, r-2, r-1, r, r+1, one after the other; 0 outside the support.

    Takes the memory of `gap`, and each power that of the one before. From alpha = 1.5 on, where a third derivative is 0
    or does not exist, the first is 0.
    """
    smooth = alpha < 1.5
    lowest = 1.0 / (alpha - 1.0) - (3.0 if smooth else 2.0)
    power = None if alpha == 1.5 else excess_power(gap, lowest, alpha)
    x = gap.mul_(alpha - 1.0).add_(1.0).clamp_min_(0.0)
    power = x.sign() if power is None else power
    if log_q is not None:
        power.mul_(log_q.exp())
    if not smooth:
        yield power.new_zeros(()).expand_as(power)
    yield power
    for _ in range(4 if smooth else 3):
        yield power.mul_(x)


def _alone(problem: Problem, largest: Tensor) -> Tensor:
    """A lower bound of tau (rows,): the label alone, or the class of the largest cosine alone."""
    least = 0.0 if problem.log_base is None else problem.log_base.amin()
    others = problem.scale * largest - separation(problem.theta_target.new_zeros(()) + least, problem.alpha)
    return torch.maximum(problem.theta_target - separation(problem.log_q_target, problem.alpha), others)


def _step(phi: Tensor, slope: Tensor, bend: Tensor, third: Tensor, alpha: float) -> Tensor:
    """To the root of the Taylor series of phi where that is near, else Newton's step on phi^(alpha-1); all (rows,)."""
    far = (phi - phi.pow(2.0 - alpha)) / ((alpha - 1.0) * slope)
    near = far
    for _ in range(4):
        change = -slope + (2.0 - alpha) * near * (bend - (3.0 - 2.0 * alpha) / 2.0 * near * third)
        near = near - (_moved(phi, slope, bend, third, near, alpha) - 1.0) / change
    return torch.where(((far * slope / phi).abs() < 0.5) & ((near - far).abs() < far.abs()), near, far)


def _moved(phi: Tensor, slope: Tensor, bend: Tensor, third: Tensor, move: Tensor, alpha: float) -> Tensor:
    """Taylor series of phi at tau + move; its derivatives are -slope, (2-alpha) bend, -(2-alpha)(3-2 alpha) third."""
    curve = (2.0 - alpha) / 2.0 * (bend - (3.0 - 2.0 * alpha) / 3.0 * move * third)
    return phi - move * (slope - move * curve)
