"""Row-wise Adam with decoupled weight decay: one second moment for a row."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from qmargin.optim.rows import RowListener, RowOptimizer, Update, check_setting


class RowAdamW(RowOptimizer):
    """Adam of prototypes (rows, dim) whose second moment is one number a row: half the state of torch.optim.AdamW.

    With g_j (dim,) the gradient of row w_j, m_j (dim,) and v_j, t_j (scalars) its moments and step count, 0 at first:

        t_j <- t_j + 1
        m_j <- beta1 * m_j + (1 - beta1) * g_j
        v_j <- beta2 * v_j + (1 - beta2) * mean(g_j^2)
        w_j <- w_j - lr * (weight_decay * w_j + m_j / (1 - beta1^t_j) / (sqrt(v_j / (1 - beta2^t_j)) + eps))

    `update="dense"` does so for every row j at every step, with g_j = 0 where the gradient holds none; then t_j is the
    number of steps. `update="lazy"` does so only for the rows the gradient holds: the others keep value, moments and
    step count, so the bias correction is that of each row's own steps. A dense gradient holds every row.

    Args:
        params: parameters (rows, dim), or param groups of them; float32 or float64, contiguous.
        lr: learning rate, >= 0; a coordinate moves by about lr a step.
        betas: beta1 and beta2, in [0, 1).
        eps: > 0, keeps rows without gradient finite.
        weight_decay: >= 0; decoupled: shrinks a row that moves by the factor 1 - lr * weight_decay.
        update: "dense" or "lazy".
        listener: told of every chunk that moved, see `RowListener`.

    Every argument but `listener` may differ between param groups. Step counts are kept in the dtype of the parameter,
    exact up to 2^24 steps in float32.

    Raises:
        ValueError: a setting or a parameter outside its range, named.

    Example:
        >>> import torch
        >>> from qmargin.optim import RowAdamW
        >>> weight = torch.nn.Parameter(torch.ones(4, 2))
        >>> optimizer = RowAdamW([weight], lr=0.1, update="lazy")
        >>> weight.grad = torch.sparse_coo_tensor([[2]], [[3.0, 3.0]], (4, 2), check_invariants=True)
        >>> optimizer.step()
        >>> weight.tolist()[1:3]
        [[1.0, 1.0], [0.899..., 0.899...]]

    Reference: the partial row-wise Adam of FBGEMM; Loshchilov and Hutter, 2019 (arXiv 1711.05101) for the decay.
    Sibling: `RowSGD`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        update: Update = "dense",
        listener: RowListener | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "update": update}
        super().__init__(params, defaults, listener)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, of the first and the second moment, got {group['betas']!r}")
        for name, beta in zip(("beta1", "beta2"), group["betas"], strict=True):
            check_setting(name, beta, below=1.0)
        check_setting("eps", group["eps"])
        if group["eps"] == 0.0:
            raise ValueError("eps must be > 0, got 0: a row without gradient would be divided by zero")

    def _moves_untouched(self, group: dict[str, Any]) -> bool:
        return bool(group["update"] == "dense")

    def _state_shapes(self, param: Tensor, _group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        rows = len(param)
        return {"exp_avg": tuple(param.shape), "exp_avg_sq": (rows,), "steps": (rows,)}

    def _move(self, rows: Tensor, grads: Tensor, states: list[Tensor], group: dict[str, Any]) -> None:
        first, second, steps = states
        beta1, beta2 = group["betas"]
        steps.add_(1.0)
        first.lerp_(grads, 1.0 - beta1)
        mean_square = torch.linalg.vector_norm(grads, dim=1).square_().div_(grads.shape[1])  # (chunk,)
        second.lerp_(mean_square, 1.0 - beta2)
        deviation = second.div(_bias(beta2, steps)).sqrt_().add_(group["eps"])  # (chunk,)
        rates = _bias(beta1, steps).mul_(deviation).reciprocal_().mul_(-group["lr"])  # (chunk,)
        rows.mul_(1.0 - group["lr"] * group["weight_decay"]).addcmul_(first, rates.unsqueeze(1))


def _bias(beta: float, steps: Tensor) -> Tensor:
    """1 - beta^steps without cancellation, for beta in [0, 1) and steps (chunk,) >= 1."""
    log = math.log(beta) if beta > 0.0 else -math.inf
    return steps.mul(log).expm1_().neg_()
