"""The alpha-divergence loss of a row of logits, computed on the support of its posterior only."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qmargin.divergence.deformed import check_alpha, log_deformed_exp, separation
from qmargin.divergence.inputs import check_base, check_labels, check_rows, to_compute_dtype
from qmargin.divergence.threshold import solve


class LossTerms(NamedTuple):
    """What one evaluation of the loss knows of each row."""

    loss: Tensor  # (batch,) >= 0, differentiable in the logits and in log q_target
    p_target: Tensor  # (batch,) posterior of the label, in [0, 1]
    support: Tensor  # (batch,) int64, number of classes with p > 0; every class at alpha = 1


def alpha_loss(
    theta: Tensor,
    labels: Tensor,
    alpha: float = 1.5,
    log_q_target: Tensor | None = None,
    base: Tensor | None = None,
) -> Tensor:
    """Alpha-divergence (Fenchel-Young) loss of logits: cross-entropy at alpha = 1, sparse for alpha > 1.

        L(theta, y; q) = max_p [<p, theta> - D(p | q)] + D(e_y | q) - theta_y,      dL/dtheta = p - e_y
        D(p | q) = sum_j q_j f(p_j / q_j),      f(u) = (u^alpha - 1 - alpha (u - 1)) / (alpha (alpha - 1))

    Classes outside the support cancel, and what is left is a sum of terms >= 0 over the support and the label,

        L = 1/alpha { [q_y^(1-alpha) - e_y (1 + (alpha-1)(1 - p_y))] / (alpha-1) + sum_{j != y} p_j e_j }

    with e_j = 1 + (alpha-1)(theta_j - tau), which is (p_j / q_j)^(alpha-1) on the support. The first term vanishes as
    (1 - p_y)^2: nothing of the size of the logits, the measure or the number of classes is subtracted.

    Args:
        theta: logits (batch, classes), floating point; half precision is computed in float32.
        labels: class indices (batch,), integer, in [0, classes).
        alpha: in [1, 2].
        log_q_target: log of the factor on the target's measure (batch,); None is 0. A margin is a value below 0.
        base: base measure of the classes (classes,), or of each row (batch, classes), > 0; None is the unit measure
            q_j = 1, NOT 1/classes, so class priors enter as `classes * priors`, of mean 1. The target's measure is
            `base[y] * exp(log_q_target)`. No gradient flows into `base`.

    Returns:
        Loss of each row (batch,), float32 (float64 for float64 logits), >= 0, and exactly 0 iff
        `theta_y - theta_j >= q_y^(1 - alpha) / (alpha - 1)` for every j != y.

    Raises:
        ValueError: alpha outside [1, 2]; labels of another shape, dtype or range; base <= 0; a row of logits with NaN
            or with its own label masked; a measure so small that q_y^(1 - alpha) overflows.

    Example:
        >>> theta = torch.tensor([[3.0, 1.0, 0.0], [0.5, 1.0, 0.0]])
        >>> alpha_loss(theta, torch.tensor([0, 0]), alpha=1.5)
        tensor([0.0000, 0.7033])

    Reference: Koutsianos et al., arXiv 2606.31664; Roulet et al., arXiv 2501.18537; Blondel et al., 2020.
    Sibling: `softargmax`, its posterior; `qmargin.losses`, the losses of cosines that call it.
    """
    return alpha_loss_terms(theta, labels, alpha, log_q_target, base).loss


def alpha_loss_terms(
    theta: Tensor,
    labels: Tensor,
    alpha: float = 1.5,
    log_q_target: Tensor | None = None,
    base: Tensor | None = None,
) -> LossTerms:
    """As `alpha_loss`, with the posterior of the target and the support size of each row."""
    alpha = check_alpha(alpha)
    if theta.ndim != 2 or not theta.is_floating_point():
        raise ValueError(f"theta must be floating point (batch, classes), got {theta.dtype} {tuple(theta.shape)}")
    rows, classes = theta.shape
    if rows == 0 or classes == 0:
        raise ValueError(f"theta needs at least one row and one class, got {tuple(theta.shape)}")
    check_labels(labels, rows, classes)
    with torch.autocast(device_type=theta.device.type, enabled=False):
        theta = to_compute_dtype(theta)
        if log_q_target is None:
            log_q_target = theta.new_zeros(rows)
        elif log_q_target.shape != (rows,):
            raise ValueError(f"log_q_target must have shape ({rows},), got {tuple(log_q_target.shape)}")
        log_base = None if base is None else check_base(base, classes, rows).to(theta.dtype).log()
        terms = _AlphaLoss.apply(theta, labels.long(), log_q_target.to(theta.dtype), log_base, alpha)  # type: ignore[no-untyped-call] # torch's own
        return LossTerms(*terms)


class _AlphaLoss(torch.autograd.Function):
    """One forward and one backward for the whole family; the gradient in theta is p - e_y."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        theta: Tensor,
        labels: Tensor,
        log_q_target: Tensor,
        log_base: Tensor | None,
        alpha: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        at_label = labels.unsqueeze(-1)
        excess = theta - theta.amax(dim=-1, keepdim=True)  # (batch, classes) <= 0
        own = excess.gather(-1, at_label).squeeze(-1)
        log_q = torch.zeros_like(excess) if log_base is None else log_base.expand_as(excess).clone()
        log_q.scatter_add_(-1, at_label, log_q_target.unsqueeze(-1))
        log_q_own = log_q.gather(-1, at_label).squeeze(-1)
        peak, p, ratio, _ = solve(excess, log_q, alpha)
        p_own = p.gather(-1, at_label).squeeze(-1)
        support = p.count_nonzero(dim=-1) if alpha > 1.0 else torch.full_like(labels, theta.shape[-1])
        gradient = p.scatter_(-1, at_label, 0.0)
        others = gradient.sum(dim=-1)  # 1 - p_y, with its digits where p_y is close to 1
        scale = ((alpha - 1.0) * peak).exp()
        rest = scale * (gradient * ratio).sum(dim=-1)
        loss = (label_term(others, own, log_q_own, peak, alpha) + rest) / alpha
        check_rows(
            loss.isfinite(), "the loss must be finite; is the label masked by -inf, or its q^(1-alpha) too large?"
        )
        gradient.scatter_(-1, at_label, -others.unsqueeze(-1))  # p_y - 1 without its cancellation; rows sum to zero
        ctx.save_for_backward(gradient, label_gradient(others, log_q_own, alpha))
        p_target = torch.where(others < 0.5, 1.0 - others, p_own)
        ctx.mark_non_differentiable(p_target, support)
        return loss, p_target, support

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        _p_target: Tensor,
        _support: Tensor,
    ) -> tuple[Tensor, None, Tensor, None, None]:
        gradient, lead = ctx.saved_tensors
        return gradient * grad.unsqueeze(-1), None, lead * grad, None, None


def label_term(others: Tensor, own: Tensor, log_q: Tensor, peak: Tensor, alpha: float) -> Tensor:
    """`[q_y^(1-alpha) - e_y (1 + (alpha-1)(1 - p_y))] / (alpha - 1)` >= 0 of the label's class; all (batch,).

    Args:
        others: 1 - p_y.
        own: theta_y minus the row's maximum.
        log_q: log q_y.
        peak: log P of the row.
        alpha: in [1, 2]; at 1 this is its limit, -log p_y - (1 - p_y).
    """
    scale = ((alpha - 1.0) * peak).exp()  # e_y = scale + (alpha - 1) own
    far = scale * separation(log_q + peak, alpha) - own - others * (scale + (alpha - 1.0) * own)
    # with e_y = (p_y / q_y)^(alpha-1) the difference, quadratic in 1 - p_y, is taken between logarithms near 0
    log_near = torch.log1p(-others) + log_deformed_exp(others, alpha)
    near = -((1.0 - alpha) * log_q).exp() * separation(-log_near, alpha)
    return torch.where(others < 0.5, near.clamp_min(0.0), far)


def label_gradient(others: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """`dL/d log q_y = q_y^(1-alpha) (p_y^alpha - 1) / alpha`; `others` is 1 - p_y, `log_q` log q_y; all (batch,)."""
    return ((1.0 - alpha) * log_q).exp() * torch.expm1(alpha * torch.log1p(-others.clamp_max(1.0))) / alpha
