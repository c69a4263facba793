"""Heads with their optimizers over many steps: the streaming head trains as the dense head does, step by step."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from qmargin import ArcFace, DenseHead, QMargin, StreamingHead
from qmargin.heads import Head
from qmargin.losses import AlphaLoss
from qmargin.optim import clip_grad_norm_

CLASSES, DIM, BATCH = 700, 24, 12
LOSSES = {"qmargin": QMargin(scale=8.0), "sharp": QMargin(alpha=1.25, scale=32.0), "arcface": ArcFace(scale=16.0)}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"lr": 0.5},
    "momentum": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
}


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Noisy draws around a direction of each class: embeddings (12, 24) and labels (12,)."""
    generator = torch.Generator().manual_seed(5)
    directions = torch.randn(CLASSES, DIM, generator=generator, dtype=torch.float64)
    drawn = [torch.randint(CLASSES, (BATCH,), generator=generator) for _ in range(steps)]
    noise = [torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64) for _ in range(steps)]
    return [(directions[labels] + 0.7 * extra, labels) for labels, extra in zip(drawn, noise, strict=True)]


def pair(loss: AlphaLoss, dtype: torch.dtype = torch.float64, **streaming: Any) -> tuple[DenseHead, StreamingHead]:
    """A dense and a streaming head with the same prototypes."""
    dense = DenseHead(CLASSES, DIM, loss, dtype=dtype)
    head = StreamingHead(CLASSES, DIM, loss, dtype=dtype, chunk=64, **streaming)
    head.load_state_dict(dense.state_dict())
    return dense, head


def run(head: Head, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]], **clip: Any) -> list[float]:
    """Losses of the steps, under a schedule that halves the learning rate every 50 steps."""
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=50, gamma=0.5)
    losses = []
    for embeddings, labels in data:
        optimizer.zero_grad()
        loss = head(embeddings.to(head.weight.dtype), labels)
        loss.backward()
        if clip:
            clip_grad_norm_(head.parameters(), **clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_dense_update_is_torch_sgd_on_the_dense_head_over_200_steps(loss: AlphaLoss, settings: dict[str, Any]) -> None:
    """In float64, where 200 steps of rounding stay below 1e-9; momentum carries untouched rows along."""
    dense, head = pair(loss, update="dense")
    data = batches(200)
    expected = run(dense, torch.optim.SGD(dense.parameters(), **settings), data)
    assert run(head, head.make_optimizer(**settings), data) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    torch.testing.assert_close(head.weight, dense.weight, rtol=1e-8, atol=1e-10)
    assert expected[-1] < expected[0]


def test_in_float32_200_steps_agree_to_float32_rounding() -> None:
    """200 steps amplify rounding, for the dense head too: both stay about as far from the run in float64."""
    data, settings = batches(200), SETTINGS["momentum"]
    dense, head = pair(QMargin(scale=8.0), torch.float32, update="dense")
    exact = DenseHead(CLASSES, DIM, QMargin(scale=8.0), dtype=torch.float64)
    exact.load_state_dict(dense.state_dict())
    run(exact, torch.optim.SGD(exact.parameters(), **settings), data)
    losses = run(dense, torch.optim.SGD(dense.parameters(), **settings), data)
    assert run(head, head.make_optimizer(**settings), data) == pytest.approx(losses, rel=1e-4, abs=1e-5)
    ours, theirs = ((each.weight.double() - exact.weight).norm() for each in (head, dense))
    assert ours < 4.0 * theirs
    assert theirs < 1e-3 * exact.weight.norm()


def test_lazy_update_moves_the_rows_of_the_gradient_alone() -> None:
    """The twin: momentum, decay and step of the rows with a gradient, row by row, on the dense head's gradient."""
    dense, head = pair(QMargin(scale=8.0), update="lazy")
    optimizer = head.make_optimizer(lr=0.1, momentum=0.9, weight_decay=0.01)
    weight = dense.weight.detach()
    velocity, seen = torch.zeros_like(weight), 0
    for embeddings, labels in batches(60):
        optimizer.zero_grad()
        head(embeddings, labels).backward()
        dense.zero_grad()
        dense(embeddings, labels).backward()
        assert dense.weight.grad is not None
        for row in dense.weight.grad.any(dim=1).nonzero().flatten().tolist():
            velocity[row] = 0.9 * velocity[row] + dense.weight.grad[row] + 0.01 * weight[row]
            weight[row] -= 0.1 * velocity[row]
            seen += 1
        optimizer.step()
        torch.testing.assert_close(head.weight.detach(), weight, rtol=1e-9, atol=1e-12)
    assert BATCH * 60 < seen < CLASSES * 60 / 4


@pytest.mark.parametrize("update", ["dense", "lazy"])
def test_the_shadow_stays_in_step_and_is_not_made_anew(update: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, head = pair(QMargin(scale=8.0), torch.float32, update=update, precision="bfloat16")
    data = batches(20)
    for optimizer in (head.make_optimizer(lr=0.1, momentum=0.9), head.make_adamw(lr=0.01, weight_decay=0.1)):
        run(head, optimizer, data[:1])
        with monkeypatch.context() as patch:
            patch.setattr(head.shadow, "forget", lambda: pytest.fail("made anew"))
            run(head, optimizer, data[1:])
        kept = head.shadow.rows, head.shadow.inverse_norm.clone(), head.shadow.residual.clone()
        head.refresh()
        head.shadow.follow(head.weight)
        for old, new in zip(kept, (head.shadow.rows, head.shadow.inverse_norm, head.shadow.residual), strict=True):
            assert old is not None
            assert new is not None
            torch.testing.assert_close(old, new, rtol=0, atol=0)


def test_an_optimizer_of_a_replaced_weight_does_not_spoil_the_shadow() -> None:
    _, head = pair(QMargin(scale=8.0))
    optimizer = head.make_optimizer(lr=0.1)
    (embeddings, labels), _ = batches(2)
    head(embeddings, labels).backward()
    old = head.weight
    head.weight = torch.nn.Parameter(torch.randn_like(old))
    expected = head(embeddings, labels).item()
    assert old.grad is not None
    optimizer.step()  # moves the old weight
    assert head(embeddings, labels).item() == expected
    assert head.shadow.is_fresh(head.weight)


@pytest.mark.parametrize("update", ["dense", "lazy"])
def test_clipping_counts_the_head_and_equals_torch_on_the_dense_head(update: Any) -> None:
    dense, head = pair(QMargin(scale=8.0), update=update)
    (embeddings, labels), _ = batches(2)
    for each in (dense, head):
        each(embeddings, labels).backward()
    expected = torch.nn.utils.clip_grad_norm_(dense.parameters(), 0.01)
    torch.testing.assert_close(clip_grad_norm_(head.parameters(), 0.01), expected, rtol=1e-9, atol=0.0)
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), dense.weight.grad, rtol=1e-9, atol=1e-15)


def test_accumulated_micro_batches_equal_one_batch() -> None:
    _, head = pair(QMargin(scale=8.0), reduction="sum")
    (embeddings, labels), _ = batches(2)
    (whole,) = torch.autograd.grad(head(embeddings, labels), head.weight)
    for part in (slice(0, 5), slice(5, 6), slice(6, BATCH)):
        head(embeddings[part], labels[part]).backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), whole.to_dense(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("make", ["make_optimizer", "make_adamw"])
def test_a_run_continues_from_its_state_dicts_with_the_same_numbers(make: str) -> None:
    data = batches(30)
    _, straight = pair(QMargin(scale=8.0), torch.float32, update="lazy")
    settings: dict[str, Any] = {"lr": 0.05} | ({"momentum": 0.9} if make == "make_optimizer" else {})
    optimizer = getattr(straight, make)(**settings)
    run(straight, optimizer, data[:15])
    _, resumed = pair(QMargin(scale=8.0), torch.float32, update="lazy")
    resumed.load_state_dict(straight.state_dict())
    other = getattr(resumed, make)(**settings)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares the tensors it is given
    assert run(resumed, other, data[15:]) == run(straight, optimizer, data[15:])
    assert torch.equal(resumed.weight, straight.weight)


def test_alpha_that_moves_from_1_mixes_dense_and_sparse_gradients() -> None:
    """A schedule may start as softmax; gradients accumulated over the change are dense."""
    dense, head = pair(QMargin(scale=8.0))
    (embeddings, labels), _ = batches(2)
    for loss in (ArcFace(scale=16.0), QMargin(scale=8.0), ArcFace(scale=16.0)):
        for each in (dense, head):
            each.loss = loss
            each(embeddings, labels).backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.to_dense(), dense.weight.grad, rtol=1e-9, atol=1e-15)
