"""Certified screening: one pass over the classes in low precision that loses no class of any support.

A class is in the support of a row iff its logit lies above tau - 1/(alpha-1), whatever its measure, and the threshold
of any SUBSET of the classes is a lower bound of tau. So the pass keeps a bound for each row, and of each chunk of
classes only what could still matter:

    scores = u'[chunk] @ e'^T                        (chunk, batch), low precision, float32 accumulation
    keep     scores >= (bound - 1/(alpha-1)) / s - slack
    tighten  bound = Newton step of the kept scores' threshold, from the left, hence never above it

`slack` bounds what low precision can be wrong by, for directions e, u and their roundings e', u':

    |e.u - e'.u'| <= |e - e'| |u| + |e'| |u - u'|  +  dim 2^-23 |e'| |u'|  +  1e-6

(residual norms, accumulation, rounding of the directions). Rounding of the scores to low precision needs no term in the
comparison: rounding is monotone, so the bound is rounded the same way. Early on a row keeps a few more classes than its
support; the bound is tightened after 1, 2, 4, 8, ... chunks, so a pass costs its matrix product and little else.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from qmargin.divergence.deformed import separation, support_reach
from qmargin.heads.chunks import Chunk
from qmargin.heads.gathered import pair_cosines
from qmargin.heads.products import ChunkProducts
from qmargin.heads.ranks import ALONE, Ranks
from qmargin.heads.shadow import ROUNDING, Shadow

BLOCK = 16  # classes of which only the largest score is compared at first
PENDING = 1 << 21  # scores kept before the bound is tightened out of turn


class Query(NamedTuple):
    """A batch that asks which classes matter to it; alpha > 1."""

    directions: Tensor  # (batch, dim) unit rows
    theta_target: Tensor  # (batch,) logit of the label, after the margin
    log_q_target: Tensor  # (batch,) log measure of the label
    log_base: Tensor | None  # (classes,) log base measure
    scale: float
    alpha: float


class Survivors(NamedTuple):
    """What screening leaves: pairs of a row and a class other than its label, and the rows that keep too many."""

    row: Tensor  # (pairs,) int64
    column: Tensor  # (pairs,) int64, class indices
    cosine: Tensor  # (pairs,) exact
    wide: Tensor  # (batch,) bool; such a row has no pairs
    counts: list[int] | None = None  # pairs that each rank found, where several share the classes


@torch.no_grad()
def screen(
    query: Query,
    shadow: Shadow,
    weight: Tensor,
    chunks: list[Chunk],
    *,
    limit: int,
    capacity: int | None,
    ranks: Ranks = ALONE,
) -> Survivors:
    """Every class of every support but the labels, and a few more.

    Args:
        query: the batch.
        shadow: fresh shadow of `weight`.
        weight: prototypes (classes, dim), read where the shadow has no copy.
        chunks: the classes, chunk by chunk, with the labels of the batch among them.
        limit: a row that keeps more classes than this is given up as wide.
        capacity: blocks kept of a chunk without asking the device how many there are, so that the loop has no host
            read; a chunk that overflows is visited again at the end. None asks: right on the CPU.
        ranks: that screen the other classes for the same batch at the same time; they share their bounds.
    """
    scorer = _Scorer(query, shadow, weight, max(chunk.size for chunk in chunks))
    stream = _Stream(query, shadow, scorer.products.dtype, limit, ranks)
    with record_function("qmargin::screen"), _one_rounding():
        for number, chunk in enumerate(chunks):
            stream.add(chunk, scorer.scores(chunk), capacity)
            if number & (number + 1) == 0 or stream.pending > PENDING:
                stream.tighten()
                if number == 0:
                    stream.agree()
                    stream.give_up_early(share=chunk.size / len(weight))
                if stream.wide.all():
                    break
        for chunk in stream.overflowed():
            stream.add(chunk, scorer.scores(chunk), None)
        stream.tighten()
        stream.agree()
    with record_function("qmargin::rescore"):
        return stream.rescore(weight, shadow.inverse_norm)


@contextmanager
def _one_rounding() -> Iterator[None]:
    """CUDA may round the partial sums of a low-precision product as well; the certificate allows for one rounding."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction, settings.allow_fp16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = settings.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction, settings.allow_fp16_reduced_precision_reduction = before


class _Scorer:
    """Scores of a chunk of classes, in one buffer: u'[chunk] @ e'^T."""

    def __init__(self, query: Query, shadow: Shadow, weight: Tensor, longest: int) -> None:
        source = weight if shadow.rows is None else shadow.rows
        self.inverse_norm = shadow.inverse_norm if shadow.rows is None else None
        self.products = ChunkProducts(source, query.directions, longest, spare=BLOCK)

    def scores(self, chunk: Chunk) -> Tensor:
        """Blocks of scores (blocks, BLOCK, batch); own labels and what pads the last block are -inf."""
        found = self.products.into_buffer(chunk.first, chunk.last)
        if self.inverse_norm is not None:
            found.mul_(self.inverse_norm[chunk.first : chunk.last].unsqueeze(1))
        scores = self.products.buffer[: -(-chunk.size // BLOCK) * BLOCK]
        scores[chunk.size :] = -torch.inf
        if chunk.own is not None:
            scores[chunk.own] = -torch.inf
        return scores.view(-1, BLOCK, scores.shape[1])


class _Stream:
    """The running bound of each row, and the pairs that still matter."""

    def __init__(
        self, query: Query, shadow: Shadow, score_dtype: torch.dtype, limit: int, ranks: Ranks = ALONE
    ) -> None:
        self.query, self.limit, self.low, self.ranks = query, limit, score_dtype, ranks
        directions = query.directions
        low = directions.to(shadow.rows.dtype if shadow.rows is not None else directions.dtype)
        residual = torch.linalg.vector_norm(directions - low, dim=1)  # (batch,)
        accumulation = directions.shape[1] * 2.0**-23 * 1.02
        self.slack = residual + (1.0 + residual) * shadow.worst_residual() + accumulation + ROUNDING
        self.rounding = 0.51 * torch.finfo(self.low).eps  # what the rounding of a score can change, relatively
        self.log_least = None if query.log_base is None else query.log_base.amin()
        self.tau = query.theta_target - separation(query.log_q_target, query.alpha)  # the label alone
        self.wide = torch.zeros_like(residual, dtype=torch.bool)
        self.row = torch.empty(0, dtype=torch.int64, device=directions.device)
        self.column, self.score = self.row, directions.new_empty(0, dtype=score_dtype)
        self.blocks: list[tuple[Tensor, Tensor, Tensor]] = []  # first class, row, scores
        self.counts: list[tuple[Chunk, int, Tensor]] = []
        self.pending = 0
        self._set_level()

    def add(self, chunk: Chunk, scores: Tensor, capacity: int | None) -> None:
        """Keep the blocks of `scores` (blocks, BLOCK, batch) whose largest score reaches the level of its row."""
        peaks = scores.amax(dim=1)  # (blocks, batch)
        batch = peaks.shape[1]
        if chunk.first == 0:
            self._seed(peaks)
        hits = (peaks >= self.level).view(-1)
        if capacity is None or capacity >= len(hits):
            index = hits.nonzero().squeeze(1)
            block, row = index // batch, index % batch
            values = scores[block, :, row]  # (hits, BLOCK)
        else:
            self.counts.append((chunk, capacity, hits.sum()))
            index = torch.nonzero_static(hits, size=capacity, fill_value=-1).squeeze(1)
            block, row = index.clamp_min(0) // batch, index.clamp_min(0) % batch
            values = scores[block, :, row].masked_fill((index < 0).unsqueeze(1), -torch.inf)
        self.blocks.append((chunk.first + block * BLOCK, row, values))
        self.pending += values.numel()

    def overflowed(self) -> list[Chunk]:
        """Chunks of which blocks were lost: one host read for all of them. Their kept pairs are dropped."""
        if not self.counts:
            return []
        totals = torch.stack([count for _, _, count in self.counts]).tolist()
        chunks = [chunk for (chunk, room, _), total in zip(self.counts, totals, strict=True) if total > room]
        self._collect()
        for chunk in chunks:
            self._keep((self.column < chunk.first) | (self.column >= chunk.last))
        return chunks

    def tighten(self) -> None:
        """Raise the bounds by a Newton step over the kept pairs, and drop the pairs below."""
        self._collect()
        self._raise_bound(self.row, self._pessimistic(self.score, self.row), self._log_q(self.column), steps=1)
        self._keep(self.score >= self.level[self.row])
        self._give_up(torch.bincount(self.row, minlength=len(self.tau)) > self.limit)

    def agree(self) -> None:
        """Every rank's bounds become those of the pairs of all; a row that one has given up is wide for all."""
        if self.ranks.size == 1:
            return
        bounds = torch.stack([self.tau, self.wide.to(self.tau.dtype)])
        self.tau, wide = self.ranks.largest(bounds).unbind()
        theta, log_q = self._pessimistic(self.score, self.row), self._log_q(self.column)
        for _ in range(2):
            self.tau = self._newton_step(self.tau, self.row, theta, log_q, self.ranks)
        self._set_level()
        self._give_up(wide > 0.0)
        self._keep(self.score >= self.level[self.row])

    def rescore(self, weight: Tensor, inverse_norm: Tensor) -> Survivors:
        """Exact cosines, of the pairs that are likely to be in a support first: they settle which others can be."""
        likely = self.score.to(self.tau.dtype) >= (self.level + 2.0 * self.slack)[self.row]
        first = likely.nonzero().squeeze(1)
        row, column = self.row[first], self.column[first]
        known = pair_cosines(self.query.directions, weight, inverse_norm, row, column)
        self._raise_bound(row, self.query.scale * known, self._log_q(column), steps=3, ranks=self.ranks)
        rest = (~likely & (self.score >= self.level[self.row])).nonzero().squeeze(1)
        others = pair_cosines(self.query.directions, weight, inverse_norm, self.row[rest], self.column[rest])
        self._check_fresh(known, self.score[first], row)  # last: by now every rank has asked what it asks the others
        chosen, cosine = torch.cat([first, rest]), torch.cat([known, others])
        if self.ranks.size > 1:  # what all ranks together know of tau leaves less to exchange
            inside = (cosine >= self._edge()[self.row[chosen]]).nonzero().squeeze(1)
            chosen, cosine = chosen[inside], cosine[inside]
        return Survivors(self.row[chosen], self.column[chosen], cosine, self.wide)

    def _check_fresh(self, exact: Tensor, score: Tensor, row: Tensor) -> None:
        """The certificate says how far a score can be off; beyond it the shadow is not that of this weight."""
        off = (exact - score.to(exact.dtype)).abs() > self.slack[row] + self.rounding * exact.abs() + ROUNDING
        if off.any():
            raise ValueError(
                f"head.weight changed and torch was not told: {int(off.sum())} scores are off by more than rounding "
                "allows; call head.refresh() after edits through .data or numpy"
            )

    def _seed(self, peaks: Tensor) -> None:
        """First bound of a row, from the largest score of each block of the first chunk."""
        row = torch.arange(peaks.shape[1], device=peaks.device).expand_as(peaks).reshape(-1)
        self._raise_bound(row, self._pessimistic(peaks.reshape(-1), row), self.log_least, steps=3)

    def _collect(self) -> None:
        """Turn the pending blocks into pairs."""
        if not self.blocks:
            return
        first, row, values = (torch.cat(parts) for parts in zip(*self.blocks, strict=True))
        block, offset = (values >= self.level[row].unsqueeze(1)).nonzero(as_tuple=True)
        self.row = torch.cat([self.row, row[block]])
        self.column = torch.cat([self.column, first[block] + offset])
        self.score = torch.cat([self.score, values[block, offset]])
        self.blocks, self.pending = [], 0

    def _keep(self, mask: Tensor) -> None:
        kept = mask.nonzero().squeeze(1)
        self.row, self.column, self.score = self.row[kept], self.column[kept], self.score[kept]

    def _log_q(self, column: Tensor) -> Tensor | None:
        return None if self.query.log_base is None else self.query.log_base[column]

    def _pessimistic(self, score: Tensor, row: Tensor) -> Tensor:
        """The least logits (pairs,) that the scores can stand for."""
        cosine = score.to(self.tau.dtype)
        least: Tensor = cosine - self.rounding * cosine.abs() - self.slack[row]
        return self.query.scale * least

    def _raise_bound(self, row: Tensor, theta: Tensor, log_q: Tensor | None, steps: int, ranks: Ranks = ALONE) -> None:
        """`tau` becomes at most the threshold of the label and the pairs, all (pairs,); of those of all `ranks`."""
        alone = theta if log_q is None else theta - separation(log_q, self.query.alpha)
        self.tau = ranks.largest(self.tau.scatter_reduce(0, row, alone, "amax"))  # each class alone is a subset, too
        for _ in range(steps):
            self.tau = self._newton_step(self.tau, row, theta, log_q, ranks)
        self._set_level()

    def _newton_step(
        self, tau: Tensor, row: Tensor, theta: Tensor, log_q: Tensor | None, ranks: Ranks = ALONE
    ) -> Tensor:
        """A step on phi^(alpha-1), from the left; phi = sum q x^r over the label and the pairs."""
        alpha = self.query.alpha
        moments = [
            tau.new_zeros(len(tau)).index_add(0, row, moment) for moment in _moments(theta - tau[row], log_q, alpha)
        ]
        own_zeroth, own_first = _moments(self.query.theta_target - tau, self.query.log_q_target, alpha)
        zeroth, first = ranks.total(torch.stack(moments)).unbind()
        zeroth = own_zeroth + zeroth  # phi
        first = own_first + first  # - dphi/dtau
        step = (zeroth - zeroth.pow(2.0 - alpha)) / ((alpha - 1.0) * first)
        return tau + torch.where(zeroth > 1.0, step, 0.0)

    def give_up_early(self, share: float) -> None:
        """Call rows wide that will be: what they kept of a `share` of the classes, taken for all of them.

        An estimate decides only how a row is solved: as exactly either way.
        """
        theta = self._pessimistic(self.score, self.row)
        log_q = self._log_q(self.column)
        log_q = theta.new_full((), -math.log(share)) if log_q is None else log_q - math.log(share)
        tau = self.tau
        for _ in range(4):
            tau = self._newton_step(tau, self.row, theta, log_q, self.ranks)
        inside = (theta > (tau - support_reach(self.query.alpha))[self.row]).nonzero().squeeze(1)
        self._give_up(torch.bincount(self.row[inside], minlength=len(tau)) > share * self.limit)

    def _give_up(self, rows: Tensor) -> None:
        self.wide |= rows
        if self.wide.any():
            self._set_level()
            self._keep(~self.wide[self.row])

    def _edge(self) -> Tensor:
        """The cosine below which a class of each row has posterior 0: (batch,)."""
        reach = support_reach(self.query.alpha)
        doubt = 1e-5 * (1.0 + reach) + ROUNDING * self.tau.abs()  # of the Newton steps themselves
        return (self.tau - doubt - reach) / self.query.scale

    def _set_level(self) -> None:
        """The low-precision score a class of each row must reach to matter: (batch,)."""
        level = self._edge() - self.slack
        level = level.clamp_min(torch.finfo(self.low).min)  # -inf is the score of what must never be kept
        self.level = level.masked_fill(self.wide, torch.inf).to(self.low)


def _moments(gap: Tensor, log_q: Tensor | None, alpha: float) -> tuple[Tensor, Tensor]:
    """`q x^r` and `q x^(r-1)` of gaps theta - tau, with x = [1 + (alpha-1) gap]_+ and r = 1/(alpha-1)."""
    x = (1.0 + (alpha - 1.0) * gap).clamp_min(0.0)
    power = x if alpha == 1.5 else torch.where(x > 0.0, x.pow(1.0 / (alpha - 1.0) - 1.0), 0.0)
    if log_q is not None:
        power = power * log_q.exp()
    return power * x, power
