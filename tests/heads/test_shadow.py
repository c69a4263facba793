"""The shadow of the prototypes is never stale: whatever changes a weight, the next call is that of a fresh head."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qmargin import AlphaLoss, ArcFace, DenseHead, QMargin, StreamingHead
from qmargin.heads.shadow import Shadow

CLASSES, DIM = 40, 8
every_precision = pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])


def batch() -> tuple[Tensor, Tensor]:
    """Embeddings (5, 8) and labels (5,)."""
    return torch.randn(5, DIM, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 7, 7, 20, 39])


def used_head(precision: str = "bfloat16") -> StreamingHead:
    """A head whose shadow was made by a first call."""
    head = StreamingHead(CLASSES, DIM, QMargin(), precision=precision)  # type: ignore[arg-type] # one of the three
    head(*batch())
    return head


def value_and_gradient(head: StreamingHead) -> list[Tensor]:
    """Loss () and dense gradient of the weight (40, 8)."""
    embeddings, labels = batch()
    loss = head(embeddings.to(head.weight.dtype), labels)
    (gradient,) = torch.autograd.grad(loss, head.weight)
    return [loss.detach(), gradient.to_dense()]


def twin(head: StreamingHead) -> StreamingHead:
    """A fresh head with the same numbers in other memory."""
    fresh = StreamingHead(CLASSES, DIM, head.loss, precision=head.precision, dtype=head.weight.dtype)
    with torch.no_grad():
        fresh.weight.copy_(head.weight)
    return fresh


def assert_fresh(head: StreamingHead) -> None:
    """Bit for bit what a fresh head says."""
    for ours, theirs in zip(value_and_gradient(head), value_and_gradient(twin(head)), strict=True):
        assert torch.equal(ours, theirs)


def sgd_step(head: StreamingHead) -> None:
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    head(*batch()).backward()
    optimizer.step()


def edit_in_place(head: StreamingHead) -> None:
    with torch.no_grad():
        head.weight[7] = -head.weight[7]


def swap_data_twice(head: StreamingHead) -> None:
    """The second swap is often given the memory of the tensor that the first one freed."""
    head.weight.data = torch.zeros(1, DIM)
    head.weight.data = torch.randn(CLASSES, DIM)


def to_double_edited_and_back(head: StreamingHead) -> None:
    head.double()
    edit_in_place(head)
    head.float()


def set_weight(head: StreamingHead) -> None:
    head.weight = nn.Parameter(torch.randn(CLASSES, DIM))


def set_data(head: StreamingHead) -> None:
    head.weight.data = torch.randn(CLASSES, DIM)


CHANGES: dict[str, Callable[[StreamingHead], object]] = {
    "load_state_dict": lambda head: head.load_state_dict({"weight": torch.randn(CLASSES, DIM)}),
    "assigned by load_state_dict": lambda head: head.load_state_dict(
        {"weight": torch.randn(CLASSES, DIM)}, assign=True
    ),
    "edit in place": edit_in_place,
    "another parameter": set_weight,
    "another data": set_data,
    "another data, twice": swap_data_twice,
    "float64 and back": to_double_edited_and_back,
    "float64": lambda head: head.double(),
    "torch.optim": sgd_step,
    "reset_parameters": lambda head: head.reset_parameters(),
    "another loss": lambda head: setattr(head, "loss", QMargin(alpha=1.25)),
}


@every_precision
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_that_torch_can_see_is_noticed(precision: str, change: Callable[[StreamingHead], object]) -> None:
    head = used_head(precision)
    change(head)
    assert_fresh(head)


def test_memory_given_to_another_weight_is_not_mistaken_for_the_old_one() -> None:
    """Large tensors are handed the same address again and again: an address alone cannot tell them apart."""
    for seed in range(20):
        head = StreamingHead(2000, 64, QMargin())
        embeddings, labels = torch.randn(4, 64), torch.arange(4)
        head(embeddings, labels)
        head.weight.data = torch.zeros(10, 64)
        head.weight.data = torch.randn(2000, 64, generator=torch.Generator().manual_seed(seed))
        dense = DenseHead(2000, 64, QMargin())
        dense.load_state_dict(head.state_dict())
        torch.testing.assert_close(head(embeddings, labels), dense(embeddings, labels))


def test_nothing_is_made_anew_while_nothing_changes() -> None:
    head = used_head()
    rows = head.shadow.rows
    value_and_gradient(head)
    assert head.shadow.rows is rows


@every_precision
@pytest.mark.parametrize("kind", ["deepcopy", "torch.save"])
def test_copies_are_their_own(precision: str, kind: str) -> None:
    head = used_head(precision)
    if kind == "deepcopy":
        copied = copy.deepcopy(head)
    else:
        file = io.BytesIO()
        torch.save(head, file)
        assert file.tell() < 2 * head.weight.nbytes + 8192  # no shadow and no buffer in it
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    before = value_and_gradient(head)
    edit_in_place(copied)
    assert_fresh(copied)
    assert all(torch.equal(a, b) for a, b in zip(value_and_gradient(head), before, strict=True))


def test_two_heads_share_a_weight() -> None:
    first, second = used_head(), used_head()
    second.weight = first.weight
    assert_fresh(second)
    edit_in_place(first)
    assert_fresh(second)
    assert_fresh(first)


@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_an_edit_between_forward_and_backward_is_torch_s_error(loss: AlphaLoss) -> None:
    head = StreamingHead(CLASSES, DIM, loss)
    value = head(*batch())
    edit_in_place(head)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_a_graph_keeps_its_own_weight_when_the_head_is_called_with_another(loss: AlphaLoss) -> None:
    head = StreamingHead(CLASSES, DIM, loss)
    first, second = torch.randn(CLASSES, DIM).requires_grad_(), 3.0 * torch.randn(CLASSES, DIM)
    value = torch.func.functional_call(head, {"weight": first}, batch())
    (expected,) = torch.autograd.grad(value, first, retain_graph=True)
    torch.func.functional_call(head, {"weight": second}, batch())
    (gradient,) = torch.autograd.grad(value, first)
    assert torch.equal(gradient.to_dense(), expected.to_dense())


# --- an optimizer that tells what moved ------------------------------------------------------------------------------


def told_step(head: StreamingHead, index: Tensor, rows: Tensor) -> None:
    """What an optimizer does."""
    listener = head.shadow.listener(head.weight)
    listener.begin()
    with torch.no_grad():
        head.weight[index] = rows
    listener.moved(index, rows)
    listener.end()


@every_precision
@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
def test_a_shadow_that_is_told_equals_a_fresh_one(precision: str, loss: AlphaLoss) -> None:
    head = used_head(precision)
    head.loss = loss
    value_and_gradient(head)
    for step in range(5):
        norms = head.shadow.inverse_norm
        index = torch.randperm(CLASSES)[: 3 + step]
        told_step(head, index, torch.randn(len(index), DIM) * 10.0**step)
        assert head.shadow.is_fresh(head.weight, low=loss.alpha > 1.0)
        assert_fresh(head)
        assert head.shadow.inverse_norm is norms  # not made anew: told
        fresh = twin(head)
        fresh.shadow.follow(fresh.weight)
        assert torch.equal(head.shadow.inverse_norm, fresh.shadow.inverse_norm)


def test_what_an_optimizer_does_not_tell_is_noticed() -> None:
    head = used_head()
    edit_in_place(head)  # before the optimizer begins
    told_step(head, torch.tensor([3]), torch.randn(1, DIM))
    assert_fresh(head)
    told_step(head, torch.tensor([4]), torch.randn(1, DIM))
    edit_in_place(head)  # after it ended
    assert_fresh(head)


def test_an_optimizer_that_fails_half_way_leaves_no_stale_shadow() -> None:
    head = used_head()
    head.shadow.listener(head.weight).begin()
    edit_in_place(head)
    assert_fresh(head)


@every_precision
@pytest.mark.parametrize("loss", [ArcFace(), QMargin()], ids=repr)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_prototype_that_an_optimizer_spoiled_is_refused_by_name(
    precision: str,
    loss: AlphaLoss,
    value: float,
) -> None:
    head = used_head(precision)
    head.loss = loss
    head(*batch())
    told_step(head, torch.tensor([9]), torch.full((1, DIM), value))
    for _ in range(2):  # and again: it is not forgotten
        with pytest.raises(ValueError, match=r"row 9 of 40 .*prototype .*must be finite and not zero"):
            head(*batch())
    told_step(head, torch.tensor([9]), torch.ones(1, DIM))
    assert_fresh(head)


def test_a_shadow_made_during_an_evaluation_can_be_told() -> None:
    """Tensors made under inference_mode may never be written to outside it."""
    head = StreamingHead(CLASSES, DIM, QMargin())
    with torch.inference_mode():
        head(*batch())
    told_step(head, torch.tensor([3]), torch.randn(1, DIM))
    assert_fresh(head)


# --- what torch cannot see -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_an_edit_through_data_is_found_by_its_scores_and_healed_by_refresh(precision: str) -> None:
    head = used_head(precision)
    head.weight.data.copy_(torch.randn(CLASSES, DIM))
    with pytest.raises(ValueError, match=r"head.weight changed and torch was not told: .* call head.refresh\(\) after"):
        head(*batch())
    head.refresh()
    assert_fresh(head)


# --- what it holds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
@pytest.mark.parametrize("classes", [1, 2047, 2048, 2049])
def test_rows_norms_and_residuals_by_the_book(dtype: torch.dtype | None, classes: int) -> None:
    weight = torch.randn(classes, 3) * 10.0 ** torch.randint(-12, 13, (classes, 1))
    shadow = Shadow(dtype)
    shadow.follow(weight)
    exact = weight.double() / weight.double().norm(dim=1, keepdim=True)
    # a reciprocal of a square root of a sum of 3 squares: a few roundings
    torch.testing.assert_close(shadow.inverse_norm.double(), 1.0 / weight.double().norm(dim=1), rtol=5e-7, atol=0.0)
    if dtype is None:
        assert shadow.rows is None
        assert torch.equal(shadow.residual, torch.zeros(classes))
        return
    assert shadow.rows is not None
    residual = (exact - shadow.rows.double()).norm(dim=1)
    # the float32 direction itself is off by a few eps; screening allows ROUNDING = 1e-6 for it
    torch.testing.assert_close(shadow.residual.double(), residual, rtol=0.0, atol=5e-7)
    assert shadow.worst_residual() == shadow.residual.max()


def test_alpha_1_makes_no_copy() -> None:
    head = StreamingHead(CLASSES, DIM, ArcFace(), precision="bfloat16")
    head(*batch())
    assert head.shadow.rows is None
    head.loss = QMargin()
    assert_fresh(head)
    assert head.shadow.rows is not None
