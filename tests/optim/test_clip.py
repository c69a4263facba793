"""Clipping: torch's own function on the densified gradients."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qmargin.optim import clip_grad_norm_


def pair(sparse: Tensor, dense: Tensor) -> list[torch.nn.Parameter]:
    """A parameter with each gradient, and one without."""
    parameters = [torch.nn.Parameter(torch.zeros(grad.shape)) for grad in (sparse, dense, dense)]
    parameters[0].grad, parameters[1].grad = sparse.clone(), dense.clone()
    return parameters


@given(
    rows=st.lists(st.integers(0, 5), max_size=12),
    max_norm=st.floats(0, 20),
    scale=st.sampled_from([0.0, 1e-4, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_as_torch_on_dense_gradients(rows: list[int], max_norm: float, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = scale * torch.randn(len(rows), 4, generator=generator)
    index = torch.tensor(rows, dtype=torch.int64)[None]
    sparse = torch.sparse_coo_tensor(index, values, (6, 4), check_invariants=True)
    ours = pair(sparse, torch.randn(5, generator=generator))
    twins = pair(sparse.to_dense(), ours[1].grad.clone())  # type: ignore[union-attr]
    norm, expected = clip_grad_norm_(ours, max_norm), torch.nn.utils.clip_grad_norm_(twins, max_norm)
    torch.testing.assert_close(norm, expected)
    for parameter, twin in zip(ours[:2], twins[:2], strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.to_dense(), twin.grad)
    assert ours[0].grad is not None
    assert ours[0].grad.is_coalesced()
    assert ours[2].grad is None


def test_duplicated_rows_count_by_their_sum(sparse: Any) -> None:
    """Opposite gradients of one row cancel: their norm is 0, not sqrt(2)."""
    (parameter, *_) = pair(sparse([1, 1], torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), torch.ones(2))
    assert clip_grad_norm_(parameter, 1.0) == 0.0


def test_one_parameter_a_generator_or_none_at_all(sparse: Any) -> None:
    grad = sparse([1], torch.tensor([[3.0, 4.0]]))
    assert clip_grad_norm_(pair(grad, torch.zeros(2))[0], 1.0) == 5.0
    assert clip_grad_norm_((parameter for parameter in pair(grad, torch.zeros(2))), 1.0) == 5.0
    assert clip_grad_norm_([], 1.0) == 0.0


def test_gradients_that_are_not_finite_spread_or_raise_as_torch_says(sparse: Any) -> None:
    parameters = pair(sparse([1], torch.tensor([[torch.nan, 4.0]])), torch.ones(2))
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert clip_grad_norm_(parameters, 1.0).isnan()
    assert parameters[1].grad is not None
    assert parameters[1].grad.isnan().all()


@pytest.mark.parametrize("max_norm", [-1.0, float("nan"), "5"])
def test_a_bad_norm_is_refused_by_name(max_norm: Any) -> None:
    with pytest.raises(ValueError, match=r"max_norm must be a number in \[0, inf\), got "):
        clip_grad_norm_([], max_norm)


def test_gradients_of_single_entries_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.eye(2).to_sparse()
    with pytest.raises(ValueError, match=r"one sparse dimension \(whole rows\), got 2; build it as"):
        clip_grad_norm_(parameter, 1.0)


def test_shards_are_added_up_over_the_ranks_and_the_others_counted_once() -> None:
    """Two ranks' shards with gradients (3, 0) and (0, 4) beside a common (12,): the norm is 13 on both."""
    squares = [torch.tensor(9.0), torch.tensor(16.0)]
    for own in ([[3.0, 0.0]], [[0.0, 4.0]]):
        common, shard = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(5, 2))
        common.grad = torch.tensor([12.0])
        shard.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor(own), (5, 2), check_invariants=True)
        norm = clip_grad_norm_([common], 6.5, shards=[shard], total=lambda _: torch.stack(squares).sum())
        assert norm.item() == 13.0
        torch.testing.assert_close(common.grad, torch.tensor([6.0]))
        torch.testing.assert_close(shard.grad.to_dense()[1], torch.tensor(own[0]) / 2)


def test_shards_without_the_other_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norm over shards is that of all ranks: pass total=head\.ranks\.total"):
        clip_grad_norm_([], 1.0, shards=[torch.nn.Parameter(torch.zeros(2, 2))])


def test_an_infinite_norm_of_shards_is_an_error_where_asked() -> None:
    shard = torch.nn.Parameter(torch.zeros(2, 2))
    shard.grad = torch.full((2, 2), torch.inf)
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_([], 1.0, shards=[shard], total=lambda square: square, error_if_nonfinite=True)
