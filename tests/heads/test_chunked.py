"""Rows streamed over every class, against all cosines at once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import A3M, AlphaLoss, ArcFace, CosFace, QMargin
from qmargin.heads.buffers import GradientBuffer
from qmargin.heads.chunked import Columns, Own, chunked_terms
from qmargin.heads.chunks import chunks_of
from qmargin.heads.shadow import Shadow

CLASSES, DIM, ROWS = 90, 6, 5
LOSSES = [ArcFace(scale=16.0), CosFace(scale=8.0), QMargin(alpha=1.25, scale=16.0), QMargin(scale=4.0), A3M(scale=4.0)]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Unit directions (5, 6), raw prototypes (90, 6) and labels (5,), two of them equal; float64."""
    generator = torch.Generator().manual_seed(1)
    directions = F.normalize(torch.randn(ROWS, DIM, generator=generator, dtype=torch.float64))
    weight = torch.randn(CLASSES, DIM, generator=generator, dtype=torch.float64)
    return directions, weight, torch.tensor([3, 89, 3, 32, 31])


def streamed(loss: AlphaLoss, base: Tensor | None = None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Losses of rows (5,), 32 classes at a time."""

    def losses(directions: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        shadow = Shadow(torch.bfloat16)
        shadow.follow(weight)
        log_base = None if base is None else base.log()
        columns = Columns(shadow, chunks_of(labels, len(weight), 32), log_base, GradientBuffer(), len(weight))
        cosine = (directions * F.normalize(weight)[labels]).sum(dim=1).detach()
        own = Own(cosine, None if log_base is None else log_base[labels])
        return chunked_terms(loss, directions, weight, own, columns).loss

    return losses


def at_once(loss: AlphaLoss, base: Tensor | None = None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda directions, weight, labels: loss(directions @ F.normalize(weight).T, labels, base)


@every_loss
@pytest.mark.parametrize("with_base", [False, True])
def test_losses_and_gradients_are_those_of_all_cosines(loss: AlphaLoss, with_base: bool) -> None:
    directions, weight, labels = inputs()
    base = torch.linspace(0.2, 3.0, CLASSES, dtype=torch.float64) if with_base else None
    factors = torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64)
    found = []
    for compute in (streamed(loss, base), at_once(loss, base)):
        leaves = directions.clone().requires_grad_(), weight.clone().requires_grad_()
        losses = compute(*leaves, labels)
        (losses * factors).sum().backward()
        gradients = [leaf.grad for leaf in leaves]
        found.append((losses.detach(), *(g.to_dense() for g in gradients if g is not None)))
    assert len(found[0]) == 3
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@every_loss
def test_the_gradient_of_the_prototypes_is_dense_at_alpha_1_alone(loss: AlphaLoss) -> None:
    directions, weight, labels = inputs()
    (gradient,) = torch.autograd.grad(streamed(loss)(directions, weight.requires_grad_(), labels).sum(), weight)
    assert gradient.is_sparse == (loss.alpha > 1.0)
    if gradient.is_sparse:
        assert gradient.is_coalesced()
        assert 0 < len(gradient.values()) < CLASSES
        assert bool(gradient.values().any(dim=1).all())


@every_loss
@pytest.mark.parametrize("frozen", [0, 1], ids=["directions", "prototypes"])
def test_what_is_frozen_gets_no_gradient_and_changes_none(loss: AlphaLoss, frozen: int) -> None:
    directions, weight, labels = inputs()
    leaves = [directions, weight]
    moving = leaves[1 - frozen].requires_grad_()
    half = torch.autograd.grad(streamed(loss)(leaves[0], leaves[1], labels).sum(), moving)[0].to_dense()
    assert not leaves[frozen].requires_grad
    leaves[frozen].requires_grad_()
    both = torch.autograd.grad(streamed(loss)(leaves[0], leaves[1], labels).sum(), moving)[0].to_dense()
    assert torch.equal(half, both)


def test_a_row_that_does_not_settle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmargin.heads.passes.PASSES", 1)
    directions, weight, labels = inputs()
    with pytest.raises(ValueError, match=r"did not settle within 1 passes .* use float64 prototypes"):
        streamed(QMargin(scale=4.0))(directions, weight, labels)
