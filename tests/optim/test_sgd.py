"""RowSGD: torch.optim.SGD on dense gradients, and a plain loop over the rows where only the touched ones move."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from qmargin.optim import RowSGD

SETTINGS = [
    {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    for momentum in (0.0, 0.9)
    for weight_decay in (0.0, 0.01)
    for nesterov in (False, True)
    if momentum or not nesterov
]


def name(settings: dict[str, Any]) -> str:
    return "-".join(f"{value:g}" for value in settings.values())


def warmup_and_decay(step: int) -> float:
    return min((step + 1) / 10, 1.0) * 0.99**step


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS, ids=name)
@pytest.mark.usefixtures("small_chunks")
def test_dense_mode_is_torch_sgd_over_200_steps(
    settings: dict[str, Any], dtype: torch.dtype, kind: str, stream: Any, start: Tensor
) -> None:
    """To the rounding of the steps: 200 of them, each of a size of about 1, in units of the last place."""
    fast, slow = (torch.nn.Parameter(start.to(dtype, copy=True)) for _ in range(2))
    optimizer = RowSGD([fast], lr=0.1, **settings)
    twin = torch.optim.SGD([slow], lr=0.1, **settings)
    schedules = [LambdaLR(each, warmup_and_decay) for each in (optimizer, twin)]
    for grad in stream(200):
        slow.grad = grad.to(dtype).to_dense()
        fast.grad = grad.to(dtype) if kind == "sparse" else slow.grad.clone()
        optimizer.step()
        twin.step()
        for schedule in schedules:
            schedule.step()
        torch.testing.assert_close(fast, slow, rtol=0.0, atol=200 * torch.finfo(dtype).eps)
    assert (fast - start.to(dtype)).abs().max() > 0.1


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
@pytest.mark.usefixtures("small_chunks")
def test_lazy_mode_moves_each_touched_row_as_written(settings: dict[str, Any], stream: Any, start: Tensor) -> None:
    weight = torch.nn.Parameter(start.clone())
    optimizer = RowSGD([weight], lr=0.1, update="lazy", **settings)
    rows, buffers = start.tolist(), torch.zeros_like(start).tolist()
    momentum, decay = settings["momentum"], settings["weight_decay"]
    for grad in stream(200):
        weight.grad = grad
        optimizer.step()
        dense = grad.to_dense().tolist()
        for j in set(grad._indices()[0].tolist()):
            for d, value in enumerate(rows[j]):
                g = dense[j][d] + decay * value
                b = buffers[j][d] = momentum * buffers[j][d] + g
                rows[j][d] = value - 0.1 * (g + momentum * b if settings["nesterov"] else b)
        torch.testing.assert_close(weight.detach(), torch.tensor(rows, dtype=torch.float64), rtol=0.0, atol=1e-13)


def test_lazy_mode_leaves_the_other_rows_and_their_momentum_alone(sparse: Any, start: Tensor) -> None:
    weight = torch.nn.Parameter(start.clone())
    optimizer = RowSGD([weight], lr=0.1, momentum=0.9, weight_decay=0.1, update="lazy")
    for rows in ([2, 5], [5, 7]):
        weight.grad = sparse(rows, torch.ones(2, 3, dtype=torch.float64))
        before, buffer = weight.detach().clone(), optimizer.state[weight].get("momentum_buffer", torch.zeros(17, 3)) + 0
        optimizer.step()
        others = [row for row in range(17) if row not in rows]
        assert torch.equal(weight[others], before[others])
        assert torch.equal(optimizer.state[weight]["momentum_buffer"][others], buffer[others].double())
        assert (weight[rows] != before[rows]).all()


def test_a_stored_row_of_zeros_is_touched(sparse: Any, start: Tensor) -> None:
    weight = torch.nn.Parameter(start.clone())
    weight.grad = sparse([4], torch.zeros(1, 3, dtype=torch.float64))
    RowSGD([weight], lr=0.1, weight_decay=0.5, update="lazy").step()
    torch.testing.assert_close(weight[4], 0.95 * start[4])
    assert torch.equal(weight[:4], start[:4])


def test_the_state_of_torch_sgd_can_be_loaded(stream: Any, start: Tensor) -> None:
    """The momentum buffer has its name and its meaning."""
    slow, fast = (torch.nn.Parameter(start.clone()) for _ in range(2))
    twin = torch.optim.SGD([slow], lr=0.1, momentum=0.9)
    gradients = [grad.to_dense() for grad in stream(20)]
    for grad in gradients[:10]:
        slow.grad = grad
        twin.step()
    optimizer = RowSGD([fast], lr=0.1, momentum=0.9)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(twin.state_dict()["state"])})
    fast.data.copy_(slow.data)
    for grad in gradients[10:]:
        slow.grad = fast.grad = grad
        twin.step()
        optimizer.step()
    torch.testing.assert_close(fast, slow, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\), got 1\.0"),
        ({"momentum": -0.1}, r"momentum must be a number in \[0, 1\), got -0\.1"),
        ({"momentum": "0.9"}, r"momentum must be a number in \[0, 1\), got '0\.9'"),
        ({"nesterov": True}, r"nesterov looks ahead along the momentum, got momentum 0; set momentum > 0"),
    ],
)
def test_bad_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RowSGD([torch.nn.Parameter(torch.zeros(2, 3))], lr=0.1, **settings)
