"""Cosines of chosen pairs of a row and a class, with a gradient that holds the chosen prototypes alone."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - the name the field uses
from torch.profiler import record_function

ROWS = 512  # prototypes whose gradients are finished at once, in the cache


class Pairs(NamedTuple):
    """Pairs of a row and a class, ordered by row; every row has at least one."""

    row: Tensor  # (pairs,) int64, ascending
    column: Tensor  # (pairs,) int64, class indices
    start: Tensor  # (batch,) int64, the first pair of each row

    @classmethod
    def ordered(cls, row: Tensor, column: Tensor, batch: int) -> "Pairs":
        """Pairs in any order, put in the order of their rows; the order within a row is kept."""
        row, order = row.sort(stable=True)
        counts = torch.bincount(row, minlength=batch)
        return cls(row, column[order], counts.cumsum(0) - counts)


def gathered_cosines(directions: Tensor, weight: Tensor, inverse_norm: Tensor, pairs: Pairs) -> Tensor:
    """Cosine of each pair, `<e_row, w_column> / |w_column|`: (pairs,), in the dtype of `directions`.

    Args:
        directions: unit rows (batch, dim).
        weight: raw prototypes (classes, dim).
        inverse_norm: 1 / |w| (classes,).
        pairs: which.

    The gradient of `weight` is a sparse tensor of the distinct classes whose pairs have a gradient other than 0:
    2 pairs dim multiplications, whatever the number of classes. Sibling: `DenseHead`, all pairs at once.
    """
    cosines: Tensor = _GatheredCosines.apply(directions, weight, inverse_norm, pairs)
    return cosines


class _GatheredCosines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        directions: Tensor,
        weight: Tensor,
        inverse_norm: Tensor,
        pairs: Pairs,
    ) -> Tensor:
        with record_function("qmargin::rescore"):
            inverse = inverse_norm[pairs.column]  # (pairs,)
            cosines = pair_products(directions, weight.detach(), pairs) * inverse
        ctx.save_for_backward(directions, weight, inverse, cosines, *pairs)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
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
                grad_weight = _sparse_gradient(grad, cosines, inverse, directions, weight, pairs)
        return grad_directions, grad_weight, None, None


def pair_products(directions: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """`<directions[row], weight[column]>` (pairs,), without a copy of either: what torch calls the gradient of the
    weights of an embedding bag."""
    products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001
        directions, weight, pairs.column, pairs.start, pairs.row, 0
    )
    return products


def _sparse_gradient(
    grad: Tensor, cosines: Tensor, inverse: Tensor, directions: Tensor, weight: Tensor, pairs: Pairs
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
    values = weight.new_empty(len(classes), weight.shape[1])  # (touched, dim)
    edges = [*start[::ROWS].tolist(), len(used)]
    for number, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        part = slice(number * ROWS, (number + 1) * ROWS)
        sums = F.embedding_bag(
            row[low:high], directions, start[part] - low, mode="sum", per_sample_weights=coefficient[low:high]
        )
        sums.addcmul_(weight[classes[part]], (along[part] * factor[part]).unsqueeze(1), value=-1.0)
        torch.mul(sums, factor[part].unsqueeze(1), out=values[part])
    return torch.sparse_coo_tensor(
        classes.unsqueeze(0), values, weight.shape, is_coalesced=True, check_invariants=False
    )
