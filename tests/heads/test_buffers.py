"""A lent buffer is never lent again while anything uses it."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from qmargin import ArcFace, QMargin, StreamingHead
from qmargin.heads.buffers import GradientBuffer
from qmargin.losses import AlphaLoss


def test_memory_is_lent_again_only_when_nothing_uses_it() -> None:
    buffer, like = GradientBuffer(), torch.empty(100, 4)
    first = buffer.take(like, 80)
    address = first.data_ptr()
    view = first[3:5]
    del first
    assert buffer.take(like, 80).data_ptr() != address  # the view still reads it
    del view
    assert buffer.take(like, 80).data_ptr() == address
    assert buffer.take(like, 10).data_ptr() == address


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 90, 100])
def test_shape_and_dtype(dtype: torch.dtype, rows: int) -> None:
    buffer = GradientBuffer()
    buffer.take(torch.empty(5, 3), 2)
    taken = buffer.take(torch.empty(100, 4, dtype=dtype), rows)
    assert (taken.shape, taken.dtype, taken.is_contiguous()) == ((rows, 4), dtype, True)


def test_copies_have_their_own() -> None:
    buffer, like = GradientBuffer(), torch.empty(10, 4)
    address = buffer.take(like, 5).data_ptr()
    for copied in (copy.deepcopy(buffer), pickle.loads(pickle.dumps(buffer))):  # noqa: S301
        assert copied.take(like, 5).data_ptr() != address or not copied._is_free()


@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_gradients_that_are_kept_stay_as_they_were(loss: AlphaLoss) -> None:
    head = StreamingHead(200, 8, loss)
    kept: list[Tensor] = []
    copies: list[Tensor] = []
    for step in range(4):
        head.zero_grad()
        head(torch.randn(6, 8), torch.arange(6) + step).backward()
        assert head.weight.grad is not None
        kept.append(head.weight.grad)
        copies.append(kept[-1].to_dense().clone())
    for gradient, copied in zip(kept, copies, strict=True):
        assert torch.equal(gradient.to_dense(), copied)


@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_two_backwards_accumulate(loss: AlphaLoss) -> None:
    head = StreamingHead(200, 8, loss)
    value = head(torch.randn(6, 8), torch.arange(6))
    (once,) = torch.autograd.grad(value, head.weight, retain_graph=True)
    expected = 2.0 * once.to_dense()
    value.backward(retain_graph=True)
    value.backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), expected)
