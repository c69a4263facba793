"""The named members: their place in the family, the published implementations, torch.compile."""

import math
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses as published
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import A3M, AlphaLoss, ArcFace, CosFace, NormFace, QMargin
from qmargin.losses import AdditiveMargin, AngularMargin, NoMargin, ReferenceAngularMargin, ReferenceMargin

MEMBERS = {
    "normface": NormFace(scale=16),
    "cosface": CosFace(margin=0.35, scale=16),
    "arcface": ArcFace(margin=0.5, scale=16),
    "insightface": ArcFace(margin=0.5, scale=16, insightface_compatible=True),
    "qmargin-1.05": QMargin(alpha=1.05),
    "qmargin": QMargin(),
    "qmargin-2": QMargin(alpha=2.0),
    "qmargin-angular": QMargin(angular=True),
    "a3m": A3M(),
}


def value_and_gradient(loss: Any, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = cosines.detach().clone().requires_grad_()
    losses = loss(leaf, labels)
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


@pytest.mark.parametrize(
    ("member", "row"),
    [
        (NormFace(scale=16), AlphaLoss(1.0, 16, NoMargin())),
        (CosFace(0.3, 32), AlphaLoss(1.0, 32, AdditiveMargin(0.3))),
        (ArcFace(0.4, 32), AlphaLoss(1.0, 32, AngularMargin(0.4))),
        (ArcFace(0.4, 32, insightface_compatible=True), AlphaLoss(1.0, 32, AngularMargin(0.4, True))),
        (QMargin(1.25, 0.2, 16), AlphaLoss(1.25, 16, ReferenceMargin(0.2))),
        (QMargin(1.25, 0.2, 16, angular=True), AlphaLoss(1.25, 16, ReferenceAngularMargin(0.2))),
        (A3M(1.25, 0.2, 16), AlphaLoss(1.25, 16, AngularMargin(0.2))),
    ],
)
def test_members_are_rows_of_the_family(member: AlphaLoss, row: AlphaLoss) -> None:
    assert member == row


@pytest.mark.parametrize("scale", [16.0, 64.0])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda s: CosFace(0.35, s), lambda s: published.CosFaceLoss(7, 4, margin=0.35, scale=s)),
        (lambda s: QMargin(1.0, 0.35, s), lambda s: published.CosFaceLoss(7, 4, margin=0.35, scale=s)),
        (lambda s: ArcFace(0.5, s), lambda s: published.ArcFaceLoss(7, 4, margin=math.degrees(0.5), scale=s)),
    ],
    ids=["CosFace", "QMargin(alpha=1)", "ArcFace"],
)
def test_equals_pytorch_metric_learning_in_value_and_gradients(ours: Any, theirs: Any, scale: float) -> None:
    """Its weights are (dim, classes), its angles degrees; the labels keep theta + m < pi, where all ArcFaces agree."""
    embeddings = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    cosines = F.linear(F.normalize(embeddings), F.normalize(weights))  # (batch, classes)
    labels = torch.stack([row.topk(3).indices[i % 3] for i, row in enumerate(cosines)])
    assert cosines.gather(1, labels.unsqueeze(1)).min() > -math.cos(0.5)
    loss = ours(scale)(cosines, labels).mean()

    rival = theirs(scale)
    rival.W = torch.nn.Parameter(weights.detach().T.clone())
    rival_embeddings = embeddings.detach().clone().requires_grad_()
    rival_loss = rival(rival_embeddings, labels)
    torch.testing.assert_close(loss, rival_loss)
    for mine, other in zip(
        torch.autograd.grad(loss, (embeddings, weights)),
        torch.autograd.grad(rival_loss, (rival_embeddings, rival.W)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other if other.shape == mine.shape else other.T)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_a3m_is_arcface_at_alpha_1_only(alpha: float) -> None:
    cosines, labels = torch.rand(4, 6), torch.arange(4)
    same = torch.allclose(A3M(alpha, 0.3, 16)(cosines, labels), ArcFace(0.3, 16)(cosines, labels))
    assert same == (alpha == 1.0)


# --- torch.compile ---------------------------------------------------------------------------------------------------


# dynamo instantiates torch.autograd.Function itself and warns about it
compiles = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


@compiles
@pytest.mark.parametrize("name", MEMBERS)
def test_compiled_without_a_graph_break_equals_eager(name: str) -> None:
    loss, cosines, labels = MEMBERS[name], 2 * torch.rand(6, 11) - 1, torch.arange(6)
    compiled = torch.compile(loss.__call__, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(value_and_gradient(compiled, cosines, labels), value_and_gradient(loss, cosines, labels))


@compiles
def test_a_bad_label_fails_inside_a_compiled_graph_too() -> None:
    compiled = torch.compile(QMargin().__call__, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"labels must be in \[0, 3\)"):
        compiled(torch.zeros(2, 3), torch.tensor([0, 3]))
