"""The contract of every head, as a table: a new head is one more row of HEADS and passes all of it."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import A3M, AlphaLoss, ArcFace, CosFace, DenseHead, NormFace, QMargin, StreamingHead
from qmargin.heads import Head, ShardedHead

HEADS: list[type[Head]] = [DenseHead, StreamingHead, ShardedHead]  # sharded over one rank, see conftest.py
LOSSES = {
    "normface": NormFace(scale=16),
    "cosface": CosFace(scale=16),
    "arcface": ArcFace(scale=16),
    "insightface": ArcFace(scale=16, insightface_compatible=True),
    "qmargin-1.25": QMargin(alpha=1.25, scale=16),
    "qmargin": QMargin(),
    "qmargin-2": QMargin(alpha=2.0, scale=4),
    "qmargin-angular": QMargin(angular=True),
    "a3m": A3M(),
}
every_head = pytest.mark.parametrize("head_type", HEADS)
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)

CLASSES, DIM, BATCH = 13, 5, 7


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Embeddings (7, 5) of any norm and labels (7,), two of them equal."""
    return 3 * torch.randn(BATCH, DIM, dtype=dtype), torch.tensor([0, 12, 3, 3, 5, 1, 7])


def specification(head: Head, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Loss of each row (batch,)."""
    return head.loss(F.normalize(embeddings) @ F.normalize(head.weight).T, labels, head.base)


def gradients(loss: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    """Of each leaf, dense."""
    return tuple(g.to_dense() if g.is_sparse else g for g in torch.autograd.grad(loss, leaves))


# --- value and gradient ----------------------------------------------------------------------------------------------


@every_head
@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_head_equals_the_one_line_specification(
    head_type: type[Head], loss: AlphaLoss, reduction: Any, dtype: torch.dtype
) -> None:
    head = head_type(CLASSES, DIM, loss, reduction=reduction, dtype=dtype)
    embeddings, labels = batch(dtype)
    embeddings.requires_grad_()
    rows = specification(head, embeddings, labels)
    ours, naive = head(embeddings, labels), {"mean": rows.mean(), "sum": rows.sum(), "none": rows}[reduction]
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-6)
    for a, b in zip(*(gradients(x.sum(), embeddings, head.weight) for x in (ours, naive)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@every_head
@every_loss
def test_norms_of_embeddings_and_prototypes_are_free(head_type: type[Head], loss: AlphaLoss) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, loss), batch()
    before = head(embeddings, labels)
    with torch.no_grad():
        head.weight.mul_(torch.rand(CLASSES, 1) * 100 + 0.1)
    torch.testing.assert_close(head(embeddings * 1e-3, labels), before, rtol=1e-5, atol=1e-6)


@every_head
@every_loss
def test_an_embedding_equal_to_its_prototype_has_a_finite_loss_and_gradient(
    head_type: type[Head], loss: AlphaLoss
) -> None:
    """The cosine is 1 or one rounding beyond, where arccos has an infinite slope. 200 draws."""
    head, labels = head_type(40, 16, loss, reduction="none"), torch.arange(40)
    for seed in range(5):
        torch.manual_seed(seed)
        head.reset_parameters()
        embeddings = (head.weight.detach() * 10.0 ** torch.randint(-3, 4, (40, 1))).requires_grad_()
        losses = head(embeddings, labels)
        assert losses.isfinite().all()
        for gradient in gradients(losses.sum(), embeddings, head.weight):
            assert gradient.isfinite().all()
        assert head.stats.target_cosine.item() == pytest.approx(1.0, abs=1e-6)


@every_head
@every_loss
def test_embedding_opposite_to_its_prototype_has_a_finite_loss_and_gradient(
    head_type: type[Head], loss: AlphaLoss
) -> None:
    head = head_type(40, 16, loss)
    embeddings = (-head.weight.detach()).requires_grad_()
    value = head(embeddings, torch.arange(40))
    assert all(g.isfinite().all() for g in (value, *gradients(value, embeddings, head.weight)))


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_embeddings_give_the_float32_loss_of_the_same_numbers(
    head_type: type[Head], dtype: torch.dtype
) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    half = embeddings.to(dtype).requires_grad_()
    loss = head(half, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, head(half.float(), labels))
    assert gradients(loss, half)[0].dtype == dtype


@every_head
def test_autocast_changes_nothing(head_type: type[Head]) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, ArcFace()), batch()
    outside = gradients(head(embeddings, labels), head.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(embeddings, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(gradients(loss, head.weight), outside, rtol=0, atol=0)


@every_head
def test_base_measure_is_a_prior(head_type: type[Head]) -> None:
    embeddings, labels = batch()
    prior = torch.arange(1.0, CLASSES + 1)
    head = head_type(CLASSES, DIM, QMargin(), base=prior)
    torch.testing.assert_close(head(embeddings, labels), specification(head, embeddings, labels).mean())
    prior.fill_(-1.0)  # the head keeps its own copy
    assert head.base is not None
    assert head.base.min() == 1.0
    plain = head_type(CLASSES, DIM, QMargin(), base=torch.ones(CLASSES))
    torch.testing.assert_close(plain(embeddings, labels), specification(plain, embeddings, labels).mean())


@every_head
def test_loss_can_be_changed_between_steps(head_type: type[Head]) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, NormFace()), batch()
    head(embeddings, labels)
    head.loss = QMargin()
    torch.testing.assert_close(head(embeddings, labels), specification(head, embeddings, labels).mean())


# --- statistics ------------------------------------------------------------------------------------------------------


@every_head
def test_statistics_by_hand(head_type: type[Head]) -> None:
    """alpha = 2, scale 2, prototypes at 0, 90 and 225 degrees: two rows solved, one nearly, one lost.

    Logits (2, 0, -1.4) and (0, 2, -1.4) are solved; a lead of 0.9 over the second class gives p = (0.95, 0.05, 0);
    (1.4, 1.4, -2) of the third class gives p = (0.5, 0.5, 0).
    """
    head = head_type(3, 2, AlphaLoss(2.0, 2.0))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, -3.0]]))
    near = (0.45 + math.sqrt(2 - 0.45**2)) / 2  # cosine with the first prototype, 0.45 less with the second
    head(torch.tensor([[2.0, 0.0], [0.0, 1.0], [near, near - 0.45], [1.0, 1.0]]), torch.tensor([0, 1, 0, 2]))
    stats = head.stats.as_floats()
    candidates = stats.pop("candidates")
    assert candidates == 3.0 if head_type is DenseHead else stats["support_size"] <= candidates <= 3.0
    assert stats == pytest.approx(
        {
            "support_size": (1 + 1 + 2 + 2) / 4,
            "zero_loss": 2 / 4,
            "p_target": (1 + 1 + 0.95 + 0) / 4,
            "target_dropped": 1 / 4,
            "target_cosine": (1 + 1 + near - 1) / 4,
            "accuracy": 3 / 4,
            "fallback_rows": 0.0,
        }
    )


@every_head
def test_accuracy_is_free_of_the_margin(head_type: type[Head]) -> None:
    head, labels = head_type(CLASSES, DIM, CosFace(margin=2.0)), torch.arange(CLASSES)
    head(head.weight.detach(), labels)
    assert head.stats.accuracy.item() == 1.0
    assert head.stats.p_target.item() < 0.5


@every_head
def test_statistics_need_a_first_call_and_belong_to_the_last(head_type: type[Head]) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    with pytest.raises(ValueError, match=r"statistics after its first call: run head\(embeddings, labels\)"):
        _ = head.stats
    head(embeddings, labels)
    first = head.stats
    head(head.weight.detach(), torch.arange(CLASSES))
    assert head.stats.target_cosine.item() == pytest.approx(1.0)
    assert first.target_cosine.item() < 0.9
    assert not any(value.requires_grad for value in vars(head.stats).values())


# --- refusals --------------------------------------------------------------------------------------------------------


@every_head
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an integer >= 1, got 0"),
        ({"num_classes": 2.0}, r"num_classes must be an integer >= 1, got 2\.0"),
        ({"num_classes": True}, "num_classes must be an integer >= 1, got True"),
        ({"embedding_dim": -1}, "embedding_dim must be an integer >= 1, got -1"),
        (
            {"loss": "arcface"},
            r"loss must be an AlphaLoss, the result of calling QMargin\(\) or ArcFace\(\), got 'arcface'",
        ),
        ({"loss": QMargin}, "loss must be an AlphaLoss"),
        ({"reduction": "average"}, "reduction must be 'mean', 'sum' or 'none', got 'average'"),
        ({"base": torch.ones(3)}, rf"base must have shape \({CLASSES},\), one measure for each class, got \(3,\)"),
        ({"base": torch.zeros(CLASSES)}, "row 0 of 13 .*base measure must be finite and > 0"),
    ],
)
def test_construction_refuses_and_names_the_law(head_type: type[Head], arguments: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"num_classes": CLASSES, "embedding_dim": DIM, "loss": QMargin()}
    with pytest.raises(ValueError, match=message):
        head_type(**(valid | arguments))


def spoiled(row: int, value: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x.index_fill(0, torch.tensor([row]), value)


@every_head
@pytest.mark.parametrize(
    ("embed", "label", "message"),
    [
        (lambda e: e[:, :4], None, r"embeddings must have shape \(batch, 5\) .* got \(7, 4\); embedding_dim is"),
        (lambda e: e[0], None, r"embeddings must have shape \(batch, 5\)"),
        (lambda e: e[:0], lambda y: y[:0], r"with batch >= 1, got \(0, 5\)"),
        (lambda e: e.long(), None, r"embeddings must be floating point, got torch\.int64; call \.float\(\)"),
        (spoiled(2, 0.0), None, r"row 2 of 7 .*embedding must be finite and not zero; look for NaN or a dead backbone"),
        (spoiled(6, math.nan), None, "row 6 of 7 .*embedding must be finite and not zero"),
        (spoiled(0, math.inf), None, "row 0 of 7 .*embedding must be finite and not zero"),
        (None, lambda y: y + 1, r"row 1 of 7 .*labels must be in \[0, 13\), got 13"),
        (None, lambda y: y - 1, r"row 0 of 7 .*labels must be in \[0, 13\), got -1"),
        (None, lambda y: y.float(), r"labels must be class indices of an integer dtype \(int64\), got torch\.float32"),
        (None, lambda y: y[:3], r"labels must have shape \(7,\), one for each row, got \(3,\)"),
    ],
)
def test_a_bad_batch_is_refused_by_name_and_changes_nothing(
    head_type: type[Head], embed: Any, label: Any, message: str
) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    head(embeddings, labels)
    stats, weight = head.stats, head.weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        head(embeddings if embed is None else embed(embeddings), labels if label is None else label(labels))
    assert head.stats is stats
    assert torch.equal(head.weight, weight)
    assert head.weight.grad is None


@every_head
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_bad_prototype_is_refused_by_name(head_type: type[Head], value: float) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    with torch.no_grad():
        head.weight[9] = value
    with pytest.raises(ValueError, match=r"row 9 of 13 .*prototype .*must be finite and not zero; was it loaded\?"):
        head(embeddings, labels)


@every_head
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_narrow_integer_labels_are_welcome(head_type: type[Head], dtype: torch.dtype) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    assert torch.equal(head(embeddings, labels.to(dtype)), head(embeddings, labels))


# --- torch's own machinery -------------------------------------------------------------------------------------------


@every_head
def test_prototypes_start_at_normal_0_001_from_torch_s_generator(head_type: type[Head]) -> None:
    torch.manual_seed(3)
    first = head_type(2000, 64, QMargin()).weight
    torch.manual_seed(3)
    assert torch.equal(head_type(2000, 64, QMargin()).weight, first)
    assert first.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert first.std().item() == pytest.approx(0.01, rel=0.02)


@every_head
def test_state_dict_round_trip(head_type: type[Head]) -> None:
    embeddings, labels = batch()
    source = head_type(CLASSES, DIM, QMargin(), base=torch.arange(1.0, 14.0))
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    copied = head_type(CLASSES, DIM, QMargin(), base=torch.ones(CLASSES))
    copied.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(copied(embeddings, labels), source(embeddings, labels))
    assert list(head_type(CLASSES, DIM, QMargin()).state_dict()) == ["weight"]


@every_head
def test_a_deep_copy_is_independent(head_type: type[Head]) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    before = head(embeddings, labels)
    copied = copy.deepcopy(head)
    with torch.no_grad():
        copied.weight.add_(1.0)
    assert torch.equal(head(embeddings, labels), before)
    assert not torch.equal(copied(embeddings, labels), before)


@every_head
@every_loss
def test_sgd_lowers_the_loss(head_type: type[Head], loss: AlphaLoss) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, loss), batch()
    labels = labels.where(torch.arange(BATCH) != 3, torch.tensor(4))  # one label each: solvable
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-4, momentum=0.9)
    first = head(embeddings, labels).item()
    for _ in range(30):
        optimizer.zero_grad()
        head(embeddings, labels).backward()
        optimizer.step()
    assert head(embeddings, labels).item() < 0.9 * first


@every_head
def test_grad_scaler_steps_and_skips_an_overflow(head_type: type[Head]) -> None:
    head, (embeddings, labels) = head_type(CLASSES, DIM, QMargin()), batch()
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain = gradients(head(embeddings, labels), head.weight)[0]
    before = head.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(embeddings, labels)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(head.weight.detach(), before - 1e-4 * plain)

    before = head.weight.detach().clone()
    assert head.weight.grad is not None
    (head.weight.grad._values() if head.weight.grad.is_sparse else head.weight.grad).fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(head.weight.detach(), before)
    assert scaler.get_scale() < 1024.0


@every_head
def test_repr_says_sizes_and_loss(head_type: type[Head]) -> None:
    text = repr(head_type(CLASSES, DIM, QMargin()))
    assert text.startswith(f"{head_type.__name__}(num_classes=13, embedding_dim=5, loss=AlphaLoss(alpha=1.5")
