"""RowAdamW: a plain loop over the rows in both modes, and torch.optim.AdamW where a row is one number."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from qmargin.optim import RowAdamW, Update


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.5, 0.3)], ids=str)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("update", ["dense", "lazy"])
@pytest.mark.usefixtures("small_chunks")
def test_every_row_moves_as_written(
    update: Update, weight_decay: float, betas: tuple[float, float], stream: Any, start: Tensor
) -> None:
    weight = torch.nn.Parameter(start.clone())
    optimizer = RowAdamW([weight], lr=0.01, betas=betas, weight_decay=weight_decay, update=update)
    rows, firsts = start.tolist(), torch.zeros_like(start).tolist()
    seconds, steps = [0.0] * len(rows), [0] * len(rows)
    for grad in stream(200):
        weight.grad = grad
        optimizer.step()
        dense = grad.to_dense().tolist()
        touched = set(grad._indices()[0].tolist())
        for j in range(len(rows)) if update == "dense" else touched:
            steps[j] += 1
            mean = sum(g * g for g in dense[j]) / len(dense[j])
            seconds[j] = betas[1] * seconds[j] + (1 - betas[1]) * mean
            root = math.sqrt(seconds[j] / (1 - betas[1] ** steps[j]))
            for d, g in enumerate(dense[j]):
                firsts[j][d] = betas[0] * firsts[j][d] + (1 - betas[0]) * g
                moment = firsts[j][d] / (1 - betas[0] ** steps[j])
                rows[j][d] -= 0.01 * (weight_decay * rows[j][d] + moment / (root + 1e-8))
        # 1 - 0.999 loses 3 digits in the loop, not in the optimiser
        torch.testing.assert_close(weight.detach(), torch.tensor(rows, dtype=torch.float64), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_rows_of_one_number_move_as_under_torch_adamw(
    kind: str, dtype: torch.dtype, stream: Any, start: Tensor
) -> None:
    fast, slow = (torch.nn.Parameter(start[:, :1].to(dtype).clone()) for _ in range(2))
    optimizer = RowAdamW([fast], lr=0.01, weight_decay=0.1)
    twin = torch.optim.AdamW([slow], lr=0.01, weight_decay=0.1)
    for grad in stream(200):
        slow.grad = grad.to_dense()[:, :1].to(dtype)
        fast.grad = slow.grad.to_sparse(1) if kind == "sparse" else slow.grad.clone()
        optimizer.step()
        twin.step()
    torch.testing.assert_close(fast, slow, rtol=0.0, atol=200 * torch.finfo(dtype).eps)


def test_the_first_step_is_of_size_lr_whatever_the_gradient(sparse: Any) -> None:
    """Also in float32 and for beta2 near 1, where 1 - beta^t cancels."""
    weight = torch.nn.Parameter(torch.zeros(17, 3))
    optimizer = RowAdamW([weight], lr=1.0, betas=(0.9, 0.999999), eps=1e-30, update="lazy")
    weight.grad = sparse([3, 9], torch.tensor([[1e3, -1e3, 1e3], [1e-3, 1e-3, -1e-3]]))
    optimizer.step()
    torch.testing.assert_close(weight.detach()[[3, 9]], torch.tensor([[-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": (0.9,)}, r"betas must be two numbers, of the first and the second moment, got \(0\.9,\)"),
        ({"betas": (1.0, 0.9)}, r"beta1 must be a number in \[0, 1\), got 1\.0"),
        ({"betas": (0.9, -1)}, r"beta2 must be a number in \[0, 1\), got -1"),
        ({"eps": -1e-8}, r"eps must be a number in \[0, inf\), got -1e-08"),
        ({"eps": 0.0}, r"eps must be > 0, got 0: a row without gradient would be divided by zero"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowAdamW([torch.nn.Parameter(torch.zeros(2, 3))], lr=0.1, **settings)
