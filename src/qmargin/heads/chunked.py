"""Rows that need every class: streamed chunk by chunk in the forward pass, and once more in the backward pass.

This is how alpha = 1 works, where nothing can be screened away, and how a row works whose support is a large share of
the classes. Never a (batch, classes) matrix: the forward pass keeps the threshold of each row, the backward pass
computes each chunk of posteriors p from it again:

    G = s p grad                                     (chunk, rows); dL/dcos at the labels, through the margin
    dE = sum over the chunks of (G / |w|)^T W[chunk]
    dW[chunk] = (G E - <G E, u> u) / |w|
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.profiler import record_function

from qmargin.divergence.alpha_loss import label_gradient, label_term
from qmargin.heads.buffers import GradientBuffer
from qmargin.heads.chunks import Chunk
from qmargin.heads.contract import RowTerms
from qmargin.heads.passes import Problem, Solved, cosines_by_chunk, find_thresholds, log_sum_exp, origin, posteriors
from qmargin.heads.ranks import ALONE, Ranks
from qmargin.heads.shadow import Shadow
from qmargin.losses import AlphaLoss


class Columns(NamedTuple):
    """What a streamed row meets besides its own direction."""

    shadow: Shadow  # fresh shadow of the weight
    chunks: list[Chunk]  # with the labels of these rows
    log_base: Tensor | None  # (classes,)
    buffer: GradientBuffer  # for the gradient of the weight
    classes: int  # of all ranks
    ranks: Ranks = ALONE  # that have the other classes, where the weight holds only some


class Own(NamedTuple):
    """What is known of the class of each row's label, which another rank may hold; both (rows,)."""

    cosine: Tensor  # plain, before the margin; not differentiable
    log_base: Tensor | None  # log of its base measure

    def log_q(self, of_margin: Tensor | None) -> Tensor:
        """Log of the label's measure: the base's times what a margin makes of it (rows,)."""
        log_q = torch.zeros_like(self.cosine) if of_margin is None else of_margin
        return log_q if self.log_base is None else log_q + self.log_base

    def of(self, rows: Tensor) -> "Own":
        """Those of some rows."""
        return Own(self.cosine[rows], None if self.log_base is None else self.log_base[rows])


def chunked_terms(loss: AlphaLoss, directions: Tensor, weight: Tensor, own: Own, columns: Columns) -> RowTerms:
    """Loss of each row over all classes, in O(chunk rows) memory.

    Args:
        loss: any member of the family.
        directions: unit rows (rows, dim).
        weight: raw prototypes (classes, dim).
        own: of the labels.
        columns: the classes.

    The gradient of `weight` is dense at alpha = 1 and sparse, the classes with p > 0, above. Sibling:
    `table_terms`, for rows with few candidates.
    """
    value, p_target, support, target_cosine, largest = _Chunked.apply(  # type: ignore[no-untyped-call] # torch's own
        directions, weight, own, loss, columns
    )
    every, wide = (
        torch.full_like(support, columns.classes),
        torch.full_like(support, loss.alpha > 1.0, dtype=torch.bool),
    )
    return RowTerms(value, p_target, support, target_cosine, target_cosine > largest, every, wide)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        directions: Tensor,
        weight: Tensor,
        own: Own,
        loss: AlphaLoss,
        columns: Columns,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        plain = own.cosine
        with torch.enable_grad():  # the margin's own derivative, taken in the backward pass
            leaf = plain.detach().requires_grad_()
            target = loss.margin.apply(leaf, loss.scale, loss.alpha)
            theta = loss.scale * target.cosine
            log_q = own.log_q(target.log_q)
        problem = Problem(
            directions, weight, columns.shadow.rows, columns.shadow.inverse_norm, columns.chunks, theta.detach(),
            log_q.detach(), columns.log_base, loss.scale, loss.alpha,
            columns.classes, columns.ranks,
        )  # fmt: skip
        with record_function("qmargin::solve"):
            solved = log_sum_exp(problem) if loss.alpha == 1.0 else find_thresholds(problem)
        gap = problem.theta_target - solved.reference - solved.step
        p_label = problem.log_q_target.exp() * posteriors(gap, loss.alpha)
        gap = gap - origin(loss.alpha)  # theta - tau
        zeros = torch.zeros_like(gap)  # the threshold stands for the row's maximum, where log P is 0
        at_label = label_term(solved.others, gap, problem.log_q_target, zeros, loss.alpha)
        p_target = torch.where(solved.others < 0.5, 1.0 - solved.others, p_label)
        ctx.save_for_backward(directions, weight)
        ctx.buffer = columns.buffer
        nothing = directions.new_empty(0)  # tensors that a gradient flows into are kept by save_for_backward alone
        ctx.problem = problem._replace(directions=nothing, weight=nothing, rows=None)
        ctx.solved, ctx.plain = solved, plain
        ctx.graph = leaf, theta, log_q
        ctx.mark_non_differentiable(p_target, solved.support, plain, solved.largest)
        return (at_label + solved.rest) / loss.alpha, p_target, solved.support, plain, solved.largest

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        directions, weight = ctx.saved_tensors
        problem: Problem = ctx.problem._replace(directions=directions, weight=weight)
        with record_function("qmargin::backward"):
            at_label = _label_cosine_gradient(problem, ctx.solved, ctx.graph, grad)
            wants_directions, wants_weight, *_ = ctx.needs_input_grad
            prototypes = _Prototypes(weight, ctx.buffer, dense=problem.alpha == 1.0) if wants_weight else None
            grad_directions = torch.zeros_like(directions) if wants_directions else None
            for chunk, gradient, cosines in _cosine_gradients(problem, ctx.solved, ctx.plain, grad, at_label):
                inverse_norm = problem.inverse_norm[chunk.first : chunk.last].unsqueeze(1)
                if prototypes is not None:
                    prototypes.add(chunk, gradient, cosines, directions, inverse_norm)
                if grad_directions is not None:
                    grad_directions.addmm_(gradient.mul_(inverse_norm).T, weight[chunk.first : chunk.last])
            return grad_directions, None if prototypes is None else prototypes.result(), None, None, None


def _label_cosine_gradient(
    problem: Problem, solved: Solved, graph: tuple[Tensor, Tensor, Tensor], grad: Tensor
) -> Tensor:
    """Gradient in the plain cosine of the label (rows,): through its logit and its measure, as the margin says."""
    leaf, theta, log_q = graph
    flows = [(theta, -solved.others * grad)]
    if log_q.requires_grad:
        flows.append((log_q, label_gradient(solved.others, problem.log_q_target, problem.alpha) * grad))
    outputs, incoming = zip(*flows, strict=True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(outputs, leaf, incoming, retain_graph=True)
    return gradient


def _cosine_gradients(
    problem: Problem, solved: Solved, plain: Tensor, grad: Tensor, at_label: Tensor
) -> Iterator[tuple[Chunk, Tensor, Tensor]]:
    """Of each chunk: the gradient in its cosines G (chunk, rows) and the cosines (chunk, rows)."""
    weights = problem.scale * grad  # (rows,)
    for chunk, cosines in cosines_by_chunk(problem):
        gap = (problem.scale * cosines).sub_(solved.reference).sub_(solved.step)
        gradient = posteriors(gap, problem.alpha).mul_(weights)
        if problem.log_base is not None:
            gradient.mul_(problem.log_base[chunk.first : chunk.last].exp().unsqueeze(1))
        if chunk.own is not None:
            gradient[chunk.own] = at_label[chunk.own[1]]
            cosines[chunk.own] = plain[chunk.own[1]]
        yield chunk, gradient, cosines


class _Prototypes:
    """Gradient of the raw prototypes, chunk by chunk: dense at alpha = 1, the touched classes alone above."""

    def __init__(self, weight: Tensor, buffer: GradientBuffer, *, dense: bool) -> None:
        self.weight, self.dense = weight, dense
        # on the CPU memory that is never written is never taken, so that the touched need not be counted first
        self.values = buffer.take(weight, len(weight))
        self.touched: list[Tensor] = []
        self.end = 0

    def add(self, chunk: Chunk, gradient: Tensor, cosines: Tensor, directions: Tensor, inverse_norm: Tensor) -> None:
        """Classes of one chunk; `inverse_norm` (chunk, 1)."""
        rows = self.weight[chunk.first : chunk.last]
        if not self.dense:
            touched = gradient.abs().amax(dim=1).nonzero().squeeze(1)
            self.touched.append(touched + chunk.first)
            if len(touched) < len(rows):
                rows, gradient, cosines, inverse_norm = (x[touched] for x in (rows, gradient, cosines, inverse_norm))
        begin, self.end = self.end, self.end + len(rows)
        sums = torch.mm(gradient, directions, out=self.values[begin : self.end])
        along = (gradient * cosines).sum(dim=1, keepdim=True)
        sums.addcmul_(rows, along.mul_(inverse_norm), value=-1.0).mul_(inverse_norm)

    def result(self) -> Tensor:
        """(classes, dim), dense or sparse."""
        if self.dense:
            return self.values
        return torch.sparse_coo_tensor(
            torch.cat(self.touched).unsqueeze(0),
            self.values[: self.end],
            self.weight.shape,
            is_coalesced=True,
            check_invariants=False,
        )
