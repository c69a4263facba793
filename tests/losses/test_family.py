"""One contract for every (alpha, margin): value, gradient, order, zero; then the laws of single margins."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import alpha_loss
from qmargin.losses import (
    AdditiveMargin,
    AlphaLoss,
    AngularMargin,
    LogPriorMargin,
    Margin,
    NoMargin,
    ReferenceAngularMargin,
    ReferenceMargin,
)

ALPHAS = [1.0, 1.05, 1.25, 1.5, 1.7, 2.0]
MARGINS = [
    NoMargin(),
    AdditiveMargin(0.2),
    AngularMargin(0.3),
    AngularMargin(0.3, insightface_compatible=True),
    ReferenceMargin(0.2),
    ReferenceAngularMargin(0.3),
    LogPriorMargin(1.5),
]
every_loss = pytest.mark.parametrize(
    "loss", [AlphaLoss(alpha, 6.0, margin) for alpha in ALPHAS for margin in MARGINS], ids=str
)
cosine_rows = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


def some_cosines(rows: int = 5, classes: int = 9, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Cosines (rows, classes) well inside [-1, 1], and labels 0, 1, 2, ...."""
    return 1.8 * torch.rand(rows, classes, dtype=dtype) - 0.9, torch.arange(rows)


def value_and_gradient(loss: AlphaLoss, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = cosines.detach().clone().requires_grad_()
    losses = loss(leaf, labels)
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


# --- the contract of every member ------------------------------------------------------------------------------------


@every_loss
def test_value_is_the_loss_of_logits_with_the_target_moved(loss: AlphaLoss) -> None:
    cosines, labels = some_cosines()
    base = torch.rand(9, dtype=torch.float64) + 0.5
    moved, log_q = loss.margin.apply(cosines.diagonal(), loss.scale, loss.alpha)
    theta = loss.scale * cosines.diagonal_scatter(moved)
    torch.testing.assert_close(loss(cosines, labels, base), alpha_loss(theta, labels, loss.alpha, log_q, base))


@every_loss
def test_gradient_is_the_finite_difference_with_the_stated_constants_held(loss: AlphaLoss) -> None:
    """The measure of an angular gap and the insightface shift are constants; every other term is differentiated."""
    cosines, labels = some_cosines(3, 5)
    held, log_q = loss.margin.apply(cosines.diagonal(), loss.scale, loss.alpha)
    plain_gradient = isinstance(loss.margin, AngularMargin) and loss.margin.insightface_compatible

    def with_constants(c: Tensor) -> Tensor:
        moved = c.diagonal() + (held - cosines.diagonal())
        if not plain_gradient:
            moved = loss.margin.apply(c.diagonal(), loss.scale, loss.alpha).cosine
        return alpha_loss(loss.scale * c.diagonal_scatter(moved), labels, loss.alpha, log_q)

    assert torch.autograd.gradcheck(with_constants, (cosines.clone().requires_grad_(),))
    leaf = cosines.clone().requires_grad_()
    _, gradient = value_and_gradient(loss, cosines, labels)
    torch.testing.assert_close(torch.autograd.grad(with_constants(leaf).sum(), leaf)[0], gradient)


@every_loss
@given(row=cosine_rows)
def test_loss_is_finite_and_never_negative_on_any_row_of_cosines(loss: AlphaLoss, row: list[float]) -> None:
    value, gradient = value_and_gradient(loss, torch.tensor([row]), torch.tensor([0]))
    assert value.item() >= 0.0
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0, 0].item() <= 1e-6  # no member ever pushes an embedding from its own prototype
    assert (gradient[0, 1:] >= 0).all()


@every_loss
def test_permuting_the_classes_changes_nothing(loss: AlphaLoss) -> None:
    cosines, labels = some_cosines()
    order = torch.randperm(9)
    torch.testing.assert_close(loss(cosines[:, order], order.argsort()[labels]), loss(cosines, labels))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_also_under_autocast(loss: AlphaLoss, dtype: torch.dtype) -> None:
    cosines, labels = some_cosines(dtype=torch.float32)
    cosines = cosines.to(dtype)
    value, gradient = value_and_gradient(loss, cosines, labels)
    truth, truth_gradient = value_and_gradient(loss, cosines.double(), labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), truth, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(gradient.double(), truth_gradient, rtol=torch.finfo(dtype).eps, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(cosines, labels)
    assert torch.equal(inside, value)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("kind", [type(margin) for margin in MARGINS[1:]])
@given(row=cosine_rows, pair=st.tuples(st.floats(0, 1.5), st.floats(0, 1.5)))
def test_loss_grows_with_the_margin(
    alpha: float, kind: type[Margin], row: list[float], pair: tuple[float, float]
) -> None:
    cosines = torch.tensor([row], dtype=torch.float64)
    low, high = (AlphaLoss(alpha, 6.0, kind(m)).terms(cosines, torch.tensor([0])) for m in sorted(pair))
    assert (low.loss <= high.loss * (1 + 1e-9) + 1e-9).all()
    assert (low.p_target >= high.p_target - 1e-9).all()


# --- laws of single margins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.5, 1.7, 2.0])
@given(m=st.floats(0, 1), excess=st.floats(-0.5, 0.5), others=st.lists(st.floats(-1, 0), min_size=1, max_size=5))
def test_reference_margin_loss_is_zero_iff_the_cosine_leads_by_the_law(
    alpha: float, m: float, excess: float, others: list[float]
) -> None:
    """L = 0 iff s (cos_y - cos_j) >= 1/(alpha-1) + s m for every j != y, and there the gradient is 0 as well."""
    scale = 24.0
    gap = 1 / ((alpha - 1) * scale) + m
    cosines = torch.tensor([[max(others) + gap + excess, *others]], dtype=torch.float64)
    value, gradient = value_and_gradient(AlphaLoss(alpha, scale, ReferenceMargin(m)), cosines, torch.tensor([0]))
    if excess >= 1e-9:
        assert value.item() == 0.0
        assert not gradient.any()
    elif excess <= -0.01:
        assert value.item() > 0.0
        assert gradient.any()


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
@pytest.mark.parametrize("m", [0.0, 0.1, 0.7])
@pytest.mark.parametrize(("dtype", "step"), [(torch.float64, 1e-7), (torch.float32, 1e-3)])
def test_reference_margin_loss_at_the_very_boundary(alpha: float, m: float, dtype: torch.dtype, step: float) -> None:
    gap = 1 / ((alpha - 1) * 32) + m
    cosines = torch.tensor([[gap * (1 + step), 0.0, -0.3], [gap * (1 - step), 0.0, -0.3]], dtype=dtype)
    value, gradient = value_and_gradient(AlphaLoss(alpha, 32, ReferenceMargin(m)), cosines, torch.tensor([0, 0]))
    assert value[0].item() == 0.0
    assert not gradient[0].any()
    assert value[1].item() > 0.0
    assert gradient[1].any()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("margin", [NoMargin(), ReferenceMargin(0.2), ReferenceAngularMargin(0.3), LogPriorMargin(1.5)])
def test_gradient_in_the_cosines_sums_to_zero_where_the_target_is_not_moved(alpha: float, margin: Margin) -> None:
    _, gradient = value_and_gradient(AlphaLoss(alpha, 6.0, margin), *some_cosines())
    torch.testing.assert_close(gradient.sum(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


@given(row=cosine_rows, m=st.floats(0, 1))
def test_at_alpha_1_reference_margin_is_the_additive_margin(row: list[float], m: float) -> None:
    """Q-Margin is CosFace at alpha = 1, in value and gradient."""
    cosines, label = torch.tensor([row], dtype=torch.float64), torch.tensor([0])
    ours = value_and_gradient(AlphaLoss(1.0, 64.0, ReferenceMargin(m)), cosines, label)
    cosface = value_and_gradient(AlphaLoss(1.0, 64.0, AdditiveMargin(m)), cosines, label)
    torch.testing.assert_close(ours, cosface, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step", [1e-3, 1e-5, 1e-7])
def test_reference_margin_tends_to_cosface_as_alpha_tends_to_1(step: float) -> None:
    cosines, labels = some_cosines(dtype=torch.float32)
    near = value_and_gradient(AlphaLoss(1 + step, 16.0, ReferenceMargin(0.2)), cosines, labels)
    cosface = value_and_gradient(AlphaLoss(1.0, 16.0, AdditiveMargin(0.2)), cosines, labels)
    torch.testing.assert_close(near, cosface, rtol=0, atol=500 * step + 3e-5)


@pytest.mark.parametrize("m", [0.1, 0.5])
def test_at_alpha_1_reference_angular_margin_is_arcface_with_the_plain_gradient(m: float) -> None:
    """Where arccos(cos_y) + m < pi; that gradient is the one of the insightface-compatible margin."""
    cosines, labels = some_cosines()
    cosines = cosines.clamp_min(-0.8)
    value, gradient = value_and_gradient(AlphaLoss(1.0, 16.0, ReferenceAngularMargin(m)), cosines, labels)
    arcface, its_gradient = value_and_gradient(AlphaLoss(1.0, 16.0, AngularMargin(m)), cosines, labels)
    _, plain = value_and_gradient(AlphaLoss(1.0, 16.0, AngularMargin(m, insightface_compatible=True)), cosines, labels)
    torch.testing.assert_close(value, arcface)
    torch.testing.assert_close(gradient, plain)
    assert not torch.allclose(gradient, its_gradient)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_reference_margin_keeps_in_the_support_a_target_that_an_angular_margin_drops(alpha: float) -> None:
    """A poor prototype: target cosine 0, like all others."""
    cosines, label = 0.001 * torch.randn(1, 50), torch.tensor([0])
    ours = AlphaLoss(alpha, 16.0, ReferenceMargin(0.5)).terms(cosines, label)
    a3m = AlphaLoss(alpha, 16.0, AngularMargin(0.5)).terms(cosines, label)
    assert ours.p_target.item() > 0.0
    assert a3m.p_target.item() == 0.0


def test_base_measure_is_a_prior_on_the_logits_at_alpha_1() -> None:
    cosines, labels = some_cosines()
    prior = torch.rand(9, dtype=torch.float64)
    expected = F.cross_entropy(8 * cosines + prior.log(), labels, reduction="none")
    torch.testing.assert_close(AlphaLoss(1.0, 8.0)(cosines, labels, prior), expected)


# --- statistics and refusals -----------------------------------------------------------------------------------------


def test_target_cosine_is_plain_and_detached() -> None:
    cosines, labels = some_cosines()
    terms = AlphaLoss(1.5, 6.0, AngularMargin(0.3)).terms(cosines.requires_grad_(), labels)
    assert torch.equal(terms.target_cosine, cosines.diagonal())
    assert not terms.target_cosine.requires_grad
    assert not terms.p_target.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 3}, r"alpha must be a number in \[1, 2\] .* got 3"),
        ({"alpha": 0.5}, r"alpha must be a number in \[1, 2\]"),
        ({"alpha": True}, r"alpha must be a number in \[1, 2\] .* got True"),
        ({"scale": 0}, "scale must be a finite number > 0 .* got 0"),
        ({"scale": -1.0}, r"scale must be a finite number > 0 .* got -1\.0"),
        ({"scale": math.inf}, "scale must be a finite number > 0 .* got inf"),
        ({"scale": math.nan}, "scale must be a finite number > 0 .* got nan"),
        ({"scale": True}, "scale must be a finite number > 0 .* got True"),
        ({"scale": "6"}, "scale must be a finite number > 0 .* got '6'"),
        ({"margin": 0.1}, r"margin must be one of qmargin\.losses\.margins, e\.g\. ReferenceMargin\(0\.1\)"),
        ({"margin": Margin(0.1)}, r"margin must be one of qmargin\.losses\.margins"),
        ({"margin": ReferenceMargin}, r"margin must be one of qmargin\.losses\.margins"),
    ],
)
def test_construction_refuses_and_names_the_law(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlphaLoss(**arguments)


@pytest.mark.parametrize(
    ("cosines", "labels", "message"),
    [
        (
            torch.zeros(3),
            torch.tensor([0]),
            r"cosines must be floating point \(batch, classes\): torch\.float32 \(3,\)",
        ),
        (torch.zeros(1, 3, dtype=torch.int64), torch.tensor([0]), r"cosines must be floating point"),
        (torch.zeros(2, 3), torch.tensor([0]), r"labels must have shape \(2,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"row 1 of 2 .*labels must be in \[0, 3\), got 3"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "labels must be class indices of an integer dtype"),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([0]), r"row 0 of 1 .*logits must be finite"),
    ],
)
def test_calling_refuses_and_names_the_law(cosines: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlphaLoss()(cosines, labels)


def test_a_loss_is_a_value() -> None:
    assert AlphaLoss(1.5, 6.0, ReferenceMargin(0.1)) == AlphaLoss(1.5, 6.0, ReferenceMargin(0.1))
    assert len({AlphaLoss(), AlphaLoss(), AlphaLoss(2.0)}) == 2
    assert eval(repr(AlphaLoss(1.5, 6.0, ReferenceMargin(0.1)))) == AlphaLoss(1.5, 6.0, ReferenceMargin(0.1))  # noqa: S307
