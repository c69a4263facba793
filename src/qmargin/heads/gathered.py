"""Cosines of chosen pairs of a row and a class, with a gradient that holds the chosen prototypes alone."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - the name the field uses
from torch.profiler import record_function

from qmargin.heads.buffers import GradientBuffer

ROWS = 512  # prototypes whose gradients are finished at once, in the cache


class Pairs(NamedTuple):
    """Pairs of a row and a class, ordered by row; every row has at least one."""

    row: Tensor  # (pairs,) int64, ascending
    column: Tensor  # (pairs,) int64, class indices
    start: Tensor  # (batch,) int64, the first pair of each row

    @classmethod
    def ordered(cls, row: Tensor, column: Tensor, batch: int) -> "tuple[Pairs, Tensor]":
        """Pairs put in the order of their rows, that within a row kept, and the order they were taken in (pairs,)."""
        row, order = row.sort(stable=True)
        counts = torch.bincount(row, minlength=batch)
        return cls(row, column[order], counts.cumsum(0) - counts), order


def pair_cosines(directions: Tensor, weight: Tensor, inverse_norm: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Cosine of each pair, `<e_row, w_column> / |w_column|` (pairs,); reads the prototypes in place. No gradient.

    What torch calls the gradient of the per-sample weights of an embedding bag is this product.
    """
    products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001
        directions.detach(), weight.detach(), column, torch.zeros_like(column[:1]), row, 0
    )
    return products.mul_(inverse_norm[column])


def gathered_cosines(
    directions: Tensor, weight: Tensor, inverse_norm: Tensor, pairs: Pairs, cosines: Tensor, buffer: GradientBuffer
) -> Tensor:
    """The cosines of pairs (pairs,), differentiable in what they were computed from by `pair_cosines`.

    Args:
        directions: unit rows (batch, dim).
        weight: raw prototypes (classes, dim).
        inverse_norm: 1 / |w| (classes,).
        pairs: which.
        cosines: their values (pairs,).
        buffer: for the gradient.

    The gradient of `weight` is a sparse tensor of the distinct classes whose pairs have a gradient other than 0:
    2 pairs dim multiplications, whatever the number of classes. Sibling: `DenseHead`, all pairs at once.
    """
    result: Tensor = _GatheredCosines.apply(  # type: ignore[no-untyped-call] # torch's own
        directions, weight, inverse_norm, pairs, cosines, buffer
    )
    return result


class _GatheredCosines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        directions: Tensor,
        weight: Tensor,
        inverse_norm: Tensor,
        pairs: Pairs,
        cosines: Tensor,
        buffer: GradientBuffer,
    ) -> Tensor:
        ctx.buffer = buffer
        ctx.save_for_backward(directions, weight, inverse_norm[pairs.column], cosines, *pairs)
        return cosines.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        directions, weight, inverse, cosines, *saved = ctx.saved_tensors
        pairs = Pairs(*saved)
        grad_directions = grad_weight = None
        with record_function("qmargin::backward"):
            if ctx.needs_input_grad[0]:
                # the sum over the pairs of a row, read straight from the prototypes
                grad_directions = F.embedding_bag(
                    pairs.column, weight, pairs.start, mode="sum", per_sample_weights=grad * inverse
                )
            if ctx.needs_input_grad[1]:
                grad_weight = _sparse_gradient(grad, cosines, inverse, directions, weight, pairs, ctx.buffer)
        return grad_directions, grad_weight, None, None, None, None


def _sparse_gradient(
    grad: Tensor,
    cosines: Tensor,
    inverse: Tensor,
    directions: Tensor,
    weight: Tensor,
    pairs: Pairs,
    buffer: GradientBuffer,
) -> Tensor:
    """Gradient of the prototypes: sparse (classes, dim), coalesced.

    With G_j = sum over the pairs of class j of grad e_row, that of the raw row is (G_j - <G_j, u_j> u_j) / |w_j|.
    """
    used = grad.nonzero().squeeze(1)  # a class outside the support has a gradient of exactly 0
    column, order = pairs.column[used].sort(stable=True)
    used = used[order]
    classes, bag, counts = column.unique_consecutive(return_inverse=True, return_counts=True)
    start = counts.cumsum(0) - counts
    factor = inverse[used][start]  # (touched,) 1 / |w_j|
    along = factor.new_zeros(len(classes)).index_add_(0, bag, (grad * cosines)[used])  # <G_j, u_j>
    row, coefficient = pairs.row[used], grad[used]
    values = buffer.take(weight, len(classes))  # (touched, dim)
    edges = [*start[::ROWS].tolist(), len(used)]
    for number, (low, high) in enumerate(pairwise(edges)):
        part = slice(number * ROWS, (number + 1) * ROWS)
        sums = F.embedding_bag(
            row[low:high], directions, start[part] - low, mode="sum", per_sample_weights=coefficient[low:high]
        )
        sums.addcmul_(weight[classes[part]], (along[part] * factor[part]).unsqueeze(1), value=-1.0)
        torch.mul(sums, factor[part].unsqueeze(1), out=values[part])
    return torch.sparse_coo_tensor(
        classes.unsqueeze(0), values, weight.shape, is_coalesced=True, check_invariants=False
    )
