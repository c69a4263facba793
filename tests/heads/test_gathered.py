"""Cosines of pairs and their gradients, against every cosine by autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin.heads.buffers import GradientBuffer
from qmargin.heads.contract import unit_rows
from qmargin.heads.gathered import Pairs, gathered_cosines, pair_cosines

BATCH, CLASSES, DIM = 5, 9, 4


def some_pairs(count: int = 20) -> Pairs:
    """At least one of each row; some of them twice."""
    row = torch.cat([torch.arange(BATCH), torch.randint(BATCH, (count,))])
    return Pairs.ordered(row, torch.randint(CLASSES, row.shape), BATCH)[0]


def cosines_of(embeddings: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    directions = unit_rows(embeddings, "")
    inverse = 1.0 / weight.detach().norm(dim=1)
    known = pair_cosines(directions, weight, inverse, pairs.row, pairs.column)
    return gathered_cosines(directions, weight, inverse, pairs, known, GradientBuffer())


def naive(embeddings: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    return (F.normalize(embeddings) @ F.normalize(weight).T)[pairs.row, pairs.column]


class Densified(torch.autograd.Function):
    """The identity; gradcheck wants gradients of the layout of their tensors."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:  # noqa: ARG004
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return grad.to_dense()


def test_ordered_keeps_the_order_within_a_row() -> None:
    row, column = torch.tensor([2, 0, 2, 1, 0]), torch.tensor([5, 4, 3, 2, 1])
    pairs, order = Pairs.ordered(row, column, 3)
    assert pairs.row.tolist() == [0, 0, 1, 2, 2]
    assert pairs.column.tolist() == [4, 1, 2, 5, 3]
    assert pairs.start.tolist() == [0, 2, 3]
    assert torch.equal(row[order], pairs.row)


@pytest.mark.parametrize("frozen", ["none", "embeddings", "weight"])
def test_value_and_gradients_equal_autograd_on_every_pair(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmargin.heads.gathered.ROWS", 3)  # several pieces, the last of them short
    embeddings, weight = torch.randn(BATCH, DIM, dtype=torch.float64), torch.randn(CLASSES, DIM, dtype=torch.float64)
    embeddings.requires_grad_(frozen != "embeddings")
    weight.requires_grad_(frozen != "weight")
    leaves = [x for x in (embeddings, weight) if x.requires_grad]
    pairs = some_pairs()
    ours, theirs = cosines_of(embeddings, weight, pairs), naive(embeddings, weight, pairs)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    upstream[3:6] = 0.0  # pairs outside the support
    for a, b in zip(*(torch.autograd.grad(x, leaves, upstream) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a.to_dense(), b)


def test_gradcheck() -> None:
    pairs = some_pairs()
    embeddings = torch.randn(BATCH, DIM, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(CLASSES, DIM, dtype=torch.float64, requires_grad=True)

    def dense(e: Tensor, w: Tensor) -> Tensor:
        return cosines_of(e, Densified.apply(w), pairs)  # type: ignore[no-untyped-call] # torch's own

    assert torch.autograd.gradcheck(dense, (embeddings, weight))


def test_the_gradient_of_prototypes_is_sparse_coalesced_and_holds_used_classes_alone() -> None:
    weight = torch.randn(CLASSES, DIM, requires_grad=True)
    pairs, _ = Pairs.ordered(torch.tensor([0, 1, 1]), torch.tensor([7, 2, 7]), 2)
    cosines = cosines_of(torch.randn(2, DIM), weight, pairs)
    (gradient,) = torch.autograd.grad(cosines, weight, torch.tensor([1.0, 0.0, 1.0]), retain_graph=True)
    assert gradient.is_coalesced()
    assert gradient._indices().tolist() == [[7]]
    (nothing,) = torch.autograd.grad(cosines, weight, torch.zeros(3))
    assert nothing._nnz() == 0
