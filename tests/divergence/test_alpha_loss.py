"""The loss of logits: the twin, the published packages, and every law of the family, in float64 and in float32."""

import math
from typing import Any

import entmax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qmargin import alpha_loss, softargmax
from qmargin.divergence import alpha_loss_terms, reference

ALPHAS = [1.0, 1.001, 1.05, 1.25, 1.5, 1.7, 2.0]
SPARSE = [1.25, 1.5, 1.7, 2.0]
alphas = st.floats(1, 2)
logits = st.lists(st.floats(-30, 30), min_size=1, max_size=10)
log_measure = st.floats(-14, 3)


def one_row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def measure(labels: Tensor, classes: int, log_q_target: Tensor | None, base: Tensor | None) -> Tensor:
    """The q of every row (batch, classes), in float64."""
    q = torch.ones(classes, dtype=torch.float64) if base is None else base.double()
    q = q.expand(len(labels), classes).clone()
    if log_q_target is not None:
        q[torch.arange(len(labels)), labels] *= log_q_target.double().exp()
    return q


def twin(
    theta: Tensor, labels: Tensor, alpha: float, log_q_target: Tensor | None = None, base: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss (batch,) and gradient (batch, classes) of the slow twin, from the very numbers of `theta`."""
    q = measure(labels, theta.shape[1], log_q_target, base).numpy()
    rows = [(t.double().numpy(), int(y), m) for t, y, m in zip(theta, labels, q, strict=True)]
    losses = [reference.loss(t, y, m, alpha) for t, y, m in rows]
    gradients = [reference.gradient(t, y, m, alpha) for t, y, m in rows]
    return torch.tensor(losses, dtype=torch.float64), torch.from_numpy(np.stack(gradients))


def value_and_gradient(
    theta: Tensor, labels: Tensor, alpha: float, log_q_target: Tensor | None = None, base: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    leaf = theta.detach().clone().requires_grad_()
    losses = alpha_loss(leaf, labels, alpha, log_q_target, base)
    return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0]


# --- against the twin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 6.0, 64.0, 1e4])
@pytest.mark.parametrize("q_target", [None, 0.5, 1e-6])
@pytest.mark.parametrize("with_base", [False, True])
def test_value_and_gradient_equal_the_twin(alpha: float, scale: float, q_target: float | None, with_base: bool) -> None:
    theta, labels = scale * torch.randn(6, 30, dtype=torch.float64), torch.arange(6)
    theta[0, 0] += 3 * scale  # a row the label wins
    log_q = None if q_target is None else torch.full((6,), math.log(q_target), dtype=torch.float64)
    base = torch.randn(30, dtype=torch.float64).exp() if with_base else None
    expected, gradient = twin(theta, labels, alpha, log_q, base)
    value, step = value_and_gradient(theta, labels, alpha, log_q, base)
    # the twin subtracts terms of size D(e_y | q), hence the absolute part
    size = float(expected.max()) + (1.0 if q_target is None else q_target ** (1 - alpha))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12 * size + 1e-11)
    torch.testing.assert_close(step, gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ties_by_the_thousands_equal_the_twin(alpha: float) -> None:
    theta, labels = torch.zeros(2, 5000, dtype=torch.float64), torch.tensor([0, 4999])
    theta[1, :2500] = -0.5
    expected, gradient = twin(theta, labels, alpha)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-6)):
        value, step = value_and_gradient(theta.to(dtype), labels, alpha)
        torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=0)
        torch.testing.assert_close(step.double(), gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masking_a_class_is_removing_it(alpha: float, dtype: torch.dtype) -> None:
    theta, labels = 3 * torch.randn(4, 6, dtype=dtype), torch.arange(4)
    masked = torch.cat([theta, torch.full((4, 3), -math.inf, dtype=dtype)], dim=1)
    value, step = value_and_gradient(masked, labels, alpha)
    expected, gradient = value_and_gradient(theta, labels, alpha)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(step[:, :6], gradient)
    assert (step[:, 6:] == 0).all()


@pytest.mark.parametrize("alpha", [1.0, 1.001, 1.01])
def test_measures_beyond_the_range_of_float32_are_no_obstacle(alpha: float) -> None:
    """A margin of 2 cosines at scale 64 is a measure of e^-128 near alpha = 1."""
    theta = torch.tensor([[200.0, 1.0, 0.0], [0.0, 128.0, 1.0], [0.0, 1.0, -math.inf]])
    labels, log_q = torch.zeros(3, dtype=torch.int64), torch.full((3,), -128.0)
    truth, gradient = value_and_gradient(theta.double(), labels, alpha, log_q.double())
    value, step = value_and_gradient(theta, labels, alpha, log_q)
    torch.testing.assert_close(value.double(), truth, rtol=1e-4, atol=0)
    torch.testing.assert_close(step.double(), gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("q_target", [1.0, 1e-6])
def test_a_single_class_has_no_loss(alpha: float, q_target: float) -> None:
    value, step = value_and_gradient(
        torch.tensor([[-3.0]]), torch.tensor([0]), alpha, torch.tensor([q_target]).log(), torch.tensor([5.0])
    )
    assert value.item() == 0.0
    assert step.item() == 0.0


# --- against published packages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.5, 1.7, 2.0])
def test_unit_measure_equals_entmax(alpha: float) -> None:
    theta, labels = 2 * torch.randn(8, 40, dtype=torch.float64), torch.arange(8)
    leaf = theta.clone().requires_grad_()
    published = {1.5: entmax.entmax15_loss, 2.0: entmax.sparsemax_loss}.get(
        alpha, lambda x, y: entmax.entmax_bisect_loss(x, y, alpha=alpha, n_iter=100)
    )(leaf, labels)
    gradient = torch.autograd.grad(published.sum(), leaf)[0]
    value, step = value_and_gradient(theta, labels, alpha)
    torch.testing.assert_close(value, published.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(step, gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alpha_1_is_cross_entropy_of_logits_plus_log_measure(dtype: torch.dtype) -> None:
    theta, labels = 5 * torch.randn(8, 40, dtype=dtype, requires_grad=True), torch.arange(8)
    base, log_q = torch.randn(40, dtype=dtype).exp(), -torch.rand(8, dtype=dtype)
    shifted = theta + base.log() + F.one_hot(labels, 40) * log_q.unsqueeze(-1)
    for ours, theirs in (
        (alpha_loss(theta, labels, 1.0), F.cross_entropy(theta, labels, reduction="none")),
        (alpha_loss(theta, labels, 1.0, log_q, base), F.cross_entropy(shifted, labels, reduction="none")),
    ):
        torch.testing.assert_close(ours, theirs)
        gradients = [torch.autograd.grad(x.sum(), theta, retain_graph=True)[0] for x in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [0.5, 5.0])
def test_gradcheck_in_logits_and_log_measure(alpha: float, scale: float) -> None:
    theta = (scale * torch.randn(4, 6, dtype=torch.float64)).requires_grad_()
    log_q = (-2 * torch.rand(4, dtype=torch.float64)).requires_grad_()
    labels, base = torch.tensor([0, 5, 2, 2]), torch.rand(6, dtype=torch.float64) + 0.5
    assert torch.autograd.gradcheck(lambda t, q: alpha_loss(t, labels, alpha, q, base), (theta, log_q))


@given(alpha=alphas, values=logits, log_q=log_measure)
def test_gradient_is_posterior_minus_onehot_and_sums_to_zero(alpha: float, values: list[float], log_q: float) -> None:
    theta, label = one_row(values), torch.tensor([len(values) // 2])
    target = torch.tensor([log_q], dtype=torch.float64)
    _, step = value_and_gradient(theta, label, alpha, target)
    p = softargmax(theta, measure(label, len(values), target, None), alpha)
    torch.testing.assert_close(step, p - F.one_hot(label, len(values)), rtol=0, atol=1e-12)
    assert step.sum().item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_per_row_weights_reach_the_gradient(alpha: float) -> None:
    theta, weights = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.tensor([2.0, 0.0, -1.0])
    (alpha_loss(theta, torch.arange(3), alpha) * weights).sum().backward()
    _, step = value_and_gradient(theta, torch.arange(3), alpha)
    torch.testing.assert_close(theta.grad, step * weights.double().unsqueeze(-1))


# --- laws ------------------------------------------------------------------------------------------------------------


@given(alpha=alphas, values=logits, log_q=log_measure, single=st.booleans())
def test_loss_is_never_negative_and_zero_only_where_the_gradient_is(
    alpha: float, values: list[float], log_q: float, single: bool
) -> None:
    dtype = torch.float32 if single else torch.float64
    theta, label = one_row(values).to(dtype), torch.tensor([0])
    value, step = value_and_gradient(theta, label, alpha, torch.tensor([log_q], dtype=dtype))
    assert value.item() >= 0.0
    assert (value.item() == 0.0) == (not step.any()) or value.item() < torch.finfo(dtype).tiny


@pytest.mark.parametrize("alpha", SPARSE)
@pytest.mark.parametrize("log_q", [0.0, -1.0, -6.0])
@pytest.mark.parametrize(("dtype", "step"), [(torch.float64, 1e-7), (torch.float32, 1e-3)])
def test_loss_is_zero_exactly_from_the_separation_on(
    alpha: float, log_q: float, dtype: torch.dtype, step: float
) -> None:
    """L = 0 iff theta_y - theta_j >= q_y^(1-alpha) / (alpha-1) for all j; value and gradient, both sides."""
    lead = math.exp((1 - alpha) * log_q) / (alpha - 1)
    theta = torch.tensor([[0.0, lead * (1 + step), -5.0], [0.0, lead * (1 - step), -5.0]], dtype=dtype)
    value, gradient = value_and_gradient(theta, torch.tensor([1, 1]), alpha, torch.tensor([log_q, log_q], dtype=dtype))
    assert value[0].item() == 0.0
    assert not gradient[0].any()
    assert value[1].item() > 0.0
    assert gradient[1].count_nonzero() == 2


@given(alpha=alphas, values=logits, shift=st.floats(-100, 100))
def test_shift_invariance(alpha: float, values: list[float], shift: float) -> None:
    label = torch.tensor([0])
    torch.testing.assert_close(
        alpha_loss(one_row(values) + shift, label, alpha), alpha_loss(one_row(values), label, alpha), rtol=0, atol=1e-9
    )


@given(alpha=alphas, values=logits, data=st.data())
def test_permutation_invariance(alpha: float, values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(values))))
    permuted = alpha_loss(one_row(values)[:, order], torch.tensor([order.index(0)]), alpha)
    torch.testing.assert_close(permuted, alpha_loss(one_row(values), torch.tensor([0]), alpha), rtol=1e-9, atol=1e-12)


@given(alpha=alphas, values=logits, pair=st.tuples(log_measure, log_measure))
def test_loss_grows_as_the_measure_of_the_target_shrinks(
    alpha: float, values: list[float], pair: tuple[float, float]
) -> None:
    less, more = (torch.tensor([x], dtype=torch.float64) for x in sorted(pair))
    low, high = (alpha_loss(one_row(values), torch.tensor([0]), alpha, q).item() for q in (more, less))
    assert low <= high * (1 + 1e-9) + 1e-12


@given(alpha=alphas, one=logits, share=st.floats(0, 1))
def test_loss_is_convex_in_the_logits(alpha: float, one: list[float], share: float) -> None:
    label, a = torch.tensor([0]), one_row(one)
    b = a.flip(1) * 0.5
    ends = share * alpha_loss(a, label, alpha) + (1 - share) * alpha_loss(b, label, alpha)
    assert (alpha_loss(share * a + (1 - share) * b, label, alpha) <= ends + 1e-9).all()


@given(alpha=alphas, values=logits, factor=st.floats(1e-2, 1e2))
def test_a_factor_on_the_measure_is_a_scale_on_the_logits(alpha: float, values: list[float], factor: float) -> None:
    """L(theta; c q) = c^(1-alpha) L(c^(alpha-1) theta; q)."""
    label, base = torch.tensor([0]), torch.linspace(0.5, 2, len(values), dtype=torch.float64)
    power = factor ** (alpha - 1)
    scaled = alpha_loss(power * one_row(values), label, alpha, None, base) / power
    torch.testing.assert_close(
        alpha_loss(one_row(values), label, alpha, None, factor * base), scaled, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_alpha_to_1_tends_to_cross_entropy_at_a_linear_rate(dtype: torch.dtype, step: float) -> None:
    theta, labels = 3 * torch.randn(8, 20, dtype=dtype), torch.arange(8)
    limit, limit_gradient = value_and_gradient(theta, labels, 1.0)
    value, gradient = value_and_gradient(theta, labels, 1.0 + step)
    rounding = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(value, limit, rtol=0, atol=100 * step + 10 * rounding)
    torch.testing.assert_close(gradient, limit_gradient, rtol=0, atol=20 * step + rounding)


@pytest.mark.parametrize("edge", [1.5, 2.0])
def test_closed_forms_join_the_general_one(edge: float) -> None:
    """The branches written without a logarithm at alpha = 1.5 and 2 are the limits of their neighbours."""
    theta, labels = 3 * torch.randn(8, 20, dtype=torch.float64), torch.arange(8)
    log_q = torch.full((8,), -3.0, dtype=torch.float64)
    for at, near in zip(
        value_and_gradient(theta, labels, edge, log_q),
        value_and_gradient(theta, labels, edge - 1e-9, log_q),
        strict=True,
    ):
        torch.testing.assert_close(at, near, rtol=1e-6, atol=1e-7)


# --- float32, half precision, autocast -------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 6.0, 64.0, 1e4])
@pytest.mark.parametrize("log_q", [0.0, -3.0, math.log(1e-6)])
def test_float32_equals_float64_of_the_same_numbers(alpha: float, scale: float, log_q: float) -> None:
    theta, labels = scale * torch.randn(16, 400), torch.arange(16)
    theta[:8, :8] += 3 * scale * torch.eye(8)  # the label wins, loses or nearly wins
    target = torch.full((16,), log_q)
    truth, gradient = value_and_gradient(theta.double(), labels, alpha, target.double())
    value, step = value_and_gradient(theta, labels, alpha, target)
    # relative: a few roundings of the value; absolute: the rounding of q_y^(1-alpha), the unit of the separation
    unit = math.exp((1 - alpha) * log_q)
    torch.testing.assert_close(value.double(), truth, rtol=2e-6, atol=5e-7 * unit)
    torch.testing.assert_close(step.double(), gradient, rtol=0, atol=5e-6)


@pytest.mark.parametrize("alpha", [1.05, *SPARSE])
@pytest.mark.parametrize("missing", [0.3, 1e-2, 1e-3])
def test_a_nearly_solved_row_keeps_its_digits_in_float32(alpha: float, missing: float) -> None:
    """p_y close to 1: the loss is orders of magnitude below the logits, and must not be their rounding error."""
    theta = torch.tensor([[1 / (alpha - 1) - missing, 0.0, -3.0]])
    truth, _ = value_and_gradient(theta.double(), torch.tensor([0]), alpha)
    value, _ = value_and_gradient(theta, torch.tensor([0]), alpha)
    # an excess near the edge has the rounding of 1/(alpha-1) against `missing`, raised to the power alpha/(alpha-1)
    rounding = 2**-23 / ((alpha - 1) * missing) * alpha / (alpha - 1)
    torch.testing.assert_close(value.double(), truth, rtol=2 * rounding, atol=1e-37)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_the_textbook_form_in_float32(alpha: float, dtype: torch.dtype) -> None:
    """Judged on the same rounded logits against float64; the rival sums the definition over all classes in float32."""
    theta, labels = (16 * torch.randn(8, 2000)).to(dtype), torch.arange(8)
    truth, gradient = twin(theta, labels, alpha)
    value, step = value_and_gradient(theta, labels, alpha)
    naive = textbook(theta.float(), labels, alpha)
    assert value.dtype == torch.float32
    assert step.dtype == dtype
    assert (value - truth).abs().max() <= (naive - truth).abs().max() + 1e-6 * truth.max()
    torch.testing.assert_close(step.double(), gradient, rtol=torch.finfo(dtype).eps, atol=1e-6)


def textbook(theta: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """`<p, theta> - D(p|1) + D(e_y|1) - theta_y`, term by term in the dtype of `theta`."""

    def f(u: Tensor) -> Tensor:
        if alpha == 1.0:
            return u.xlogy(u) - u + 1
        generated: Tensor = (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1))
        return generated

    p, target = softargmax(theta, alpha=alpha), F.one_hot(labels, theta.shape[1]).to(theta.dtype)
    return (p * theta).sum(1) - f(p).sum(1) + f(target).sum(1) - (target * theta).sum(1)


@pytest.mark.parametrize("alpha", [1.0, 1.25, 1.5, 2.0])
def test_autocast_changes_nothing(alpha: float) -> None:
    theta, labels = 64 * torch.randn(4, 50), torch.arange(4)
    outside = value_and_gradient(theta, labels, alpha)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value_and_gradient(theta, labels, alpha)
    assert inside[0].dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


# --- statistics and refusals -----------------------------------------------------------------------------------------


def test_support_counts_the_classes_with_mass_and_the_label_only_if_it_has_some() -> None:
    theta = torch.tensor([[0.0, 0.0, -9.0], [0.0, 0.0, -9.0], [9.0, 0.0, 0.0]])
    terms = alpha_loss_terms(theta, torch.tensor([0, 2, 0]), alpha=2.0)
    assert terms.support.tolist() == [2, 2, 1]
    assert terms.p_target.tolist() == [0.5, 0.0, 1.0]
    assert alpha_loss_terms(theta, torch.tensor([0, 2, 0]), alpha=1.0).support.tolist() == [3, 3, 3]


@given(alpha=alphas, values=logits, log_q=log_measure)
def test_p_target_is_a_probability_and_agrees_with_the_gradient(
    alpha: float, values: list[float], log_q: float
) -> None:
    theta = one_row(values).float()
    terms = alpha_loss_terms(theta, torch.tensor([0]), alpha, torch.tensor([log_q]))
    _, step = value_and_gradient(theta, torch.tensor([0]), alpha, torch.tensor([log_q]))
    assert 0.0 <= terms.p_target.item() <= 1.0
    assert terms.p_target.item() - 1.0 == pytest.approx(step[0, 0].item(), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 3}, r"alpha must be a number in \[1, 2\] .* got 3"),
        ({"alpha": 0.5}, r"alpha must be a number in \[1, 2\] .* got 0\.5"),
        ({"theta": torch.zeros(3)}, r"theta must be floating point \(batch, classes\), got torch\.float32 \(3,\)"),
        ({"theta": torch.zeros(2, 3, dtype=torch.int64)}, r"theta must be floating point .* got torch\.int64"),
        ({"theta": torch.zeros(0, 3)}, r"theta needs at least one row and one class, got \(0, 3\)"),
        ({"theta": torch.zeros(2, 0)}, r"theta needs at least one row and one class, got \(2, 0\)"),
        ({"theta": torch.tensor([[0, 0.0], [0, math.nan]])}, r"row 1 of 2 .*logits must be finite or -inf"),
        ({"theta": torch.tensor([[0, 0.0], [0, -math.inf]])}, r"row 1 of 2 .*is the label masked by -inf"),
        ({"log_q_target": torch.tensor([0, -300.0])}, r"row 1 of 2 .*or its q\^\(1-alpha\) too large"),
        ({"labels": torch.tensor([0, 3])}, r"row 1 of 2 .*labels must be in \[0, 3\), got 3"),
        ({"labels": torch.tensor([0, -1])}, r"row 1 of 2 .*labels must be in \[0, 3\), got -1"),
        ({"labels": torch.tensor([0])}, r"labels must have shape \(2,\)"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels must be class indices of an integer dtype"),
        ({"log_q_target": torch.zeros(3)}, r"log_q_target must have shape \(2,\), got \(3,\)"),
        ({"base": torch.ones(2)}, r"base must have shape \(3,\)"),
        ({"base": torch.tensor([1.0, 0.0, 1.0])}, r"row 1 of 3 .*base measure must be finite and > 0"),
        ({"base": torch.ones(3, requires_grad=True)}, r"pass base\.detach\(\)"),
    ],
)
def test_refusals_name_the_law(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        alpha_loss(**({"theta": torch.zeros(2, 3), "labels": torch.tensor([0, 1])} | arguments))
