"""Stochastic gradient descent with momentum on rows."""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from qmargin.optim.rows import RowListener, RowOptimizer, Update, check_setting


class RowSGD(RowOptimizer):
    """SGD of prototypes (rows, dim), as torch.optim.SGD, from gradients that may hold only some of the rows.

    With g_j (dim,) the gradient of row w_j, 0 where it holds none, and momentum buffer b_j (dim,), 0 at first:

        g_j <- g_j + weight_decay * w_j
        b_j <- momentum * b_j + g_j
        w_j <- w_j - lr * (g_j + momentum * b_j  if nesterov else  b_j)

    `update="dense"` does so for every row j at every step: torch.optim.SGD on the dense gradient. `update="lazy"` does
    so only for the rows the gradient holds (a stored row of zeros counts): the others keep their value and their
    buffer, undecayed, however many steps pass, as in torch.optim.SparseAdam. A dense gradient holds every row. Lazy
    steps read and write the touched rows alone; dense ones all rows, unless momentum and weight_decay are both 0.

    Args:
        params: parameters (rows, dim), or param groups of them; float32 or float64, contiguous.
        lr: learning rate, >= 0.
        momentum: in [0, 1).
        weight_decay: >= 0, times the row is added to its gradient.
        nesterov: look ahead along the momentum, which must be > 0.
        update: "dense" or "lazy".
        listener: told of every chunk that moved, see `RowListener`.

    Every argument but `listener` may differ between param groups.

    Raises:
        ValueError: a setting or a parameter outside its range, named.

    Example:
        >>> import torch
        >>> from qmargin.optim import RowSGD
        >>> weight = torch.nn.Parameter(torch.ones(4, 2))
        >>> optimizer = RowSGD([weight], lr=0.1, momentum=0.9, update="lazy")
        >>> weight.grad = torch.sparse_coo_tensor([[2]], [[1.0, 2.0]], (4, 2), check_invariants=True)
        >>> optimizer.step()
        >>> weight.tolist()[1:3]
        [[1.0, 1.0], [0.899..., 0.800...]]

    Reference: An et al., 2021, Partial FC (arXiv 2010.05222), whose sampled rows move alone. Sibling: `RowAdamW`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        update: Update = "dense",
        listener: RowListener | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "update": update,
        }
        super().__init__(params, defaults, listener)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_setting("momentum", group["momentum"], below=1.0)
        if group["nesterov"] and group["momentum"] == 0.0:
            raise ValueError("nesterov looks ahead along the momentum, got momentum 0; set momentum > 0, e.g. 0.9")

    def _moves_untouched(self, group: dict[str, Any]) -> bool:
        return bool(group["update"] == "dense" and (group["momentum"] or group["weight_decay"]))

    def _state_shapes(self, param: Tensor, group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        return {"momentum_buffer": tuple(param.shape)} if group["momentum"] != 0.0 else {}

    def _move(self, rows: Tensor, grads: Tensor, states: list[Tensor], group: dict[str, Any]) -> None:
        sgd(  # torch's own step, one pass over the chunk
            [rows],
            [grads],
            [*states] or [None],
            fused=True,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
        )
