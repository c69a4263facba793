"""The posterior of the family, `softargmax`: softmax at alpha = 1, entmax at 1.5, sparsemax at 2, with a measure q."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qmargin.divergence.deformed import check_alpha
from qmargin.divergence.inputs import to_compute_dtype
from qmargin.divergence.threshold import solve


def softargmax(theta: Tensor, q: Tensor | None = None, alpha: float = 1.5) -> Tensor:
    """Posterior that maximises `<p, theta> - D_alpha(p | q)` over the simplex.

        p_j = q_j [1 + (alpha - 1)(theta_j - tau)]_+ ^ (1 / (alpha - 1)),      tau such that sum_j p_j = 1

    Args:
        theta: logits (..., classes), floating point; half precision is computed and returned in float32.
        q: reference measure > 0, broadcastable to `theta`, need not sum to one; None is the unit measure q_j = 1
            (the convention of entmax, NOT 1/classes).
        alpha: in [1, 2].

    Returns:
        p, shape of `theta`, >= 0, rows sum to 1; differentiable once in `theta` and `q`.

    Raises:
        ValueError: alpha outside [1, 2]; q <= 0 or of a shape that does not broadcast; a row without a finite logit.

    Example:
        >>> softargmax(torch.tensor([1.0, 0.5, -2.0]), alpha=2.0)
        tensor([0.7500, 0.2500, 0.0000])

    Reference: Peters, Niculae and Martins, "Sparse sequence-to-sequence models", 2019 (q = 1); Roulet et al.,
    arXiv 2501.18537 (any q). Sibling: `alpha_loss`, the loss whose gradient is `softargmax(theta) - onehot(labels)`.
    """
    alpha = check_alpha(alpha)
    if theta.ndim == 0 or not theta.is_floating_point():
        raise ValueError(f"theta must be floating point (..., classes), got {theta.dtype} {tuple(theta.shape)}")
    if q is None:
        q = theta.new_ones(())
    elif not bool((q > 0).all() and q.isfinite().all()):
        raise ValueError(f"the reference measure q must be finite and > 0, got a minimum of {q.min().item():g}")
    with torch.autocast(device_type=theta.device.type, enabled=False):
        theta, q = to_compute_dtype(theta), to_compute_dtype(q)
        try:
            q = q.expand_as(theta)
        except RuntimeError as error:
            raise ValueError(f"q {tuple(q.shape)} does not broadcast to theta {tuple(theta.shape)}") from error
        classes = theta.shape[-1]
        p: Tensor = _Softargmax.apply(theta.reshape(-1, classes), q.reshape(-1, classes), alpha)  # type: ignore[no-untyped-call] # torch's own
    return p.view(theta.shape)


class _Softargmax(torch.autograd.Function):
    """With s_j = dp_j/dtheta_j at a fixed tau, a vector-Jacobian product is s * (g - <s, g> / <s, 1>)."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, q: Tensor, alpha: float) -> Tensor:  # noqa: ANN401 - torch's own context
        excess = theta - theta.amax(dim=-1, keepdim=True)  # (batch, classes) <= 0
        row = solve(excess, q.log(), alpha)
        ctx.save_for_backward(row.p / q, row.slope * ((1.0 - alpha) * row.peak).exp().unsqueeze(-1))
        return row.p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        weight, slope = ctx.saved_tensors
        centred = grad - ((slope * grad).sum(-1) / slope.sum(-1)).unsqueeze(-1)
        return slope * centred, weight * centred, None
