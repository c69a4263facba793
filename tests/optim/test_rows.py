"""What both optimisers promise in both modes: one suite, one row of a table for each."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the field uses
from torch.utils._python_dispatch import TorchDispatchMode

from qmargin.optim import RowAdamW, RowOptimizer, RowSGD

Make = Callable[..., RowOptimizer]


def sgd(params: Any, **settings: Any) -> RowOptimizer:
    return RowSGD(params, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **settings})


def adamw(params: Any, **settings: Any) -> RowOptimizer:
    return RowAdamW(params, **{"lr": 0.1, "weight_decay": 0.01, **settings})


every_optimizer = pytest.mark.parametrize("make", [sgd, adamw])
every_update = pytest.mark.parametrize("update", ["dense", "lazy"])


@dataclass
class Mirror:
    """A listener that keeps a copy of the parameter from what it is told, and the order of the calls."""

    copy: Tensor
    calls: list[str] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def begin(self) -> None:
        self.calls.append("begin")
        self.told = []

    def moved(self, index: slice | Tensor, rows: Tensor) -> None:
        self.calls.append("moved")
        self.told += torch.arange(len(self.copy))[index].tolist()
        self.copy[index] = rows

    def end(self) -> None:
        self.calls.append("end")


@every_optimizer
@every_update
@pytest.mark.usefixtures("small_chunks")
def test_the_listener_is_told_every_row_that_moved_once(make: Make, update: str, stream: Any, start: Tensor) -> None:
    weight, mirror = torch.nn.Parameter(start.clone()), Mirror(start.clone())
    optimizer = make([weight], update=update, listener=mirror)
    for grad in stream(20):
        weight.grad = grad
        mirror.calls, mirror.told = [], []
        optimizer.step()
        moved = sorted(set(grad._indices()[0].tolist())) if update == "lazy" else list(range(len(start)))
        assert mirror.told == moved
        chunks = ["moved"] * -(-len(moved) // 3)
        assert mirror.calls == (["begin", *chunks, "end"] if moved else [])
        assert torch.equal(mirror.copy, weight)


@every_optimizer
@every_update
def test_the_listener_is_not_called_without_a_gradient(make: Make, update: str, start: Tensor) -> None:
    weight, mirror = torch.nn.Parameter(start.clone()), Mirror(start.clone())
    optimizer = make([weight], update=update, listener=mirror)
    optimizer.zero_grad()
    optimizer.step()
    assert mirror.calls == []
    assert torch.equal(weight, start)
    assert not optimizer.state


def test_without_momentum_and_decay_dense_mode_moves_the_touched_rows_alone(sparse: Any, start: Tensor) -> None:
    weight, mirror = torch.nn.Parameter(start.clone()), Mirror(start.clone())
    weight.grad = sparse([9, 2, 9], torch.ones(3, 3, dtype=torch.float64))
    RowSGD([weight], lr=0.1, listener=mirror).step()
    assert mirror.told == [2, 9]
    assert torch.equal(mirror.copy, weight)


def test_a_copy_or_a_loaded_state_does_not_mix_up_listeners(sparse: Any, start: Tensor) -> None:
    """A copied optimiser moves a copied parameter: the listener of the original must not hear of it."""
    weight, mirror = torch.nn.Parameter(start.clone()), Mirror(start.clone())
    optimizer = sgd([weight], listener=mirror)
    twin = copy.deepcopy(optimizer)
    for param in (weight, twin.param_groups[0]["params"][0]):
        param.grad = sparse([1], torch.ones(1, 3, dtype=torch.float64))
    twin.step()
    assert mirror.calls == []
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert mirror.calls == ["begin", "moved", "end"]


@every_optimizer
@every_update
@pytest.mark.usefixtures("small_chunks")
def test_a_dense_gradient_holds_every_row(make: Make, update: str, stream: Any, start: Tensor) -> None:
    """Dense or sparse, lazy or not: the same gradient of all rows moves them alike. Its memory layout is free."""
    weights = [torch.nn.Parameter(start.clone()) for _ in range(3)]
    optimizers = [make([weight], update=mode) for weight, mode in zip(weights, (update, update, "dense"), strict=True)]
    for grad in stream(20):
        dense = grad.to_dense()
        weights[0].grad = dense.T.contiguous().T
        weights[1].grad = torch.sparse_coo_tensor(torch.arange(17)[None], dense, check_invariants=True)
        weights[2].grad = grad
        for optimizer in optimizers:
            optimizer.step()
    for weight in weights[:2]:
        torch.testing.assert_close(weight, weights[2], rtol=0.0, atol=1e-13)


@every_optimizer
@every_update
def test_accumulated_gradients_are_their_sum(make: Make, update: str, start: Tensor) -> None:
    """Two backward passes through an embedding, with rows in common, against one pass over both batches."""
    once, twice = (torch.nn.Parameter(start.clone()) for _ in range(2))
    batches = torch.tensor([[3, 3, 8], [8, 1, 3]])
    for rows in batches:
        F.embedding(rows, twice, sparse=True).square().sum().backward()
    F.embedding(batches, once, sparse=True).square().sum().backward()
    assert twice.grad is not None
    assert not twice.grad.is_coalesced()
    for weight in (once, twice):
        make([weight], update=update).step()
    torch.testing.assert_close(twice, once)
    assert (twice[[1, 3, 8]] != start[[1, 3, 8]]).all()


@every_optimizer
@every_update
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.usefixtures("small_chunks")
def test_a_run_goes_on_from_its_state_bit_for_bit(
    make: Make, update: str, dtype: torch.dtype, stream: Any, start: Tensor
) -> None:
    weight = torch.nn.Parameter(start.to(dtype, copy=True))
    optimizer = make([weight], update=update)
    resumed = torch.nn.Parameter(torch.zeros_like(weight))
    other = make([resumed], lr=7.0, update="lazy" if update == "dense" else "dense")
    for step, grad in enumerate(stream(40)):
        if step == 20:
            file = io.BytesIO()
            torch.save([optimizer.state_dict(), weight.detach()], file)
            file.seek(0)
            state, values = torch.load(file, weights_only=True)
            other.load_state_dict(state)
            resumed.data.copy_(values)
        weight.grad = grad.to(dtype)
        optimizer.step()
        if step >= 20:
            resumed.grad = grad.to(dtype)
            other.step()
    assert torch.equal(resumed, weight)
    for name, tensor in optimizer.state[weight].items():
        assert torch.equal(other.state[resumed][name], tensor)
        assert tensor.dtype == dtype


@every_optimizer
@every_update
def test_a_scaler_unscales_and_skips(make: Make, update: str, stream: Any, start: Tensor) -> None:
    """A power of two as scale changes no digit; a step with an infinite gradient moves nothing."""
    plain, scaled = (torch.nn.Parameter(start.float()) for _ in range(2))
    optimizer, mirror = make([plain], update=update), Mirror(start.float())
    other = make([scaled], update=update, listener=mirror)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    scaler.scale(torch.zeros(()))  # a scaler exists from its first use
    for step, grad in enumerate(stream(20)):
        scaled.grad = 1024.0 * grad.float()
        if step == 8:
            scaled.grad._values()[0, 0] = torch.inf
        else:
            plain.grad = grad.float()
            optimizer.step()
        calls = len(mirror.calls)
        scaler.step(other)
        assert step != 8 or len(mirror.calls) == calls
        scaler.update(1024.0)
        torch.testing.assert_close(scaled, plain, rtol=0.0, atol=0.0)


@every_optimizer
def test_groups_keep_their_own_settings(make: Make, stream: Any, start: Tensor) -> None:
    together = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    alone = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    settings: list[dict[str, Any]] = [{"lr": 0.5, "update": "lazy"}, {"weight_decay": 0.3}]
    both = make([{"params": [weight], **each} for weight, each in zip(together, settings, strict=True)])
    optimizers = [make([weight], **each) for weight, each in zip(alone, settings, strict=True)]
    for grad in stream(20):
        for weight in (*together, *alone):
            weight.grad = grad
        for optimizer in (both, *optimizers):
            optimizer.step()
    for weight, other in zip(together, alone, strict=True):
        assert torch.equal(weight, other)
    assert not torch.equal(*together)


@every_optimizer
def test_a_closure_is_evaluated_with_gradients(make: Make, start: Tensor) -> None:
    weight = torch.nn.Parameter(start.clone())
    optimizer = make([weight])

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.embedding(torch.tensor([2, 4]), weight, sparse=True).square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(start[[2, 4]].square().sum().item())
    assert (weight != start).any()


class LargestStorage(TorchDispatchMode):
    """Bytes of the largest tensor made inside, apart from those that were there before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.largest = self.operations = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and not tensor.is_sparse:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.largest = max(self.largest, storage.nbytes())
        return result


@every_optimizer
@every_update
@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.usefixtures("small_chunks")
def test_nothing_larger_than_a_chunk_is_allocated(make: Make, update: str, kind: str, sparse: Any) -> None:
    weight = torch.nn.Parameter(torch.randn(600, 3, dtype=torch.float64))
    grad = sparse(torch.arange(0, 600, 6), torch.randn(100, 3, dtype=torch.float64), classes=600).coalesce()
    weight.grad = grad if kind == "sparse" else grad.to_dense()
    optimizer = make([weight], update=update)
    optimizer.step()
    known = [weight, *optimizer.state[weight].values(), *([] if kind == "sparse" else [weight.grad])]
    with LargestStorage([*known, grad.indices(), grad.values()]) as seen:
        optimizer.step()
    bounds = 8 * (600 // 3 + 2)  # where each chunk begins among the rows of the gradient
    assert seen.largest <= bounds
    assert seen.operations > 600 // 3 if kind == "dense" else seen.operations > 100 // 3


@every_optimizer
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -0.1}, r"lr must be a number in \[0, inf\), got -0\.1"),
        ({"lr": float("inf")}, r"lr must be a number in \[0, inf\), got inf"),
        ({"lr": True}, r"lr must be a number in \[0, inf\), got True"),
        ({"weight_decay": float("nan")}, r"weight_decay must be a number in \[0, inf\), got nan"),
        ({"update": "sparse"}, r"update must be 'dense' \(every row\) or 'lazy' .* got 'sparse'"),
    ],
)
def test_bad_settings_are_refused_by_name(make: Make, settings: dict[str, Any], message: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=message):
        make([weight], **settings)
    optimizer = make([weight])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2, 3))], **settings})
    assert len(optimizer.param_groups) == 1


@every_optimizer
@pytest.mark.parametrize(
    ("weight", "arrived"),
    [
        (torch.zeros(3), r"\(3,\) torch\.float32"),
        (torch.zeros(2, 3, dtype=torch.bfloat16), r"\(2, 3\) torch\.bfloat16"),
        (torch.zeros(2, 3).T, r"\(3, 2\) torch\.float32"),
    ],
    ids=["vector", "bfloat16", "strided"],
)
def test_other_parameters_are_refused(make: Make, weight: Tensor, arrived: str) -> None:
    message = rf"moves contiguous float32 or float64 parameters \(rows, dim\), got {arrived}; give the other parameters"
    with pytest.raises(ValueError, match=message):
        make([torch.nn.Parameter(weight)])


def test_a_listener_follows_one_parameter() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(2)]
    with pytest.raises(ValueError, match="a listener follows the rows of one parameter, got 2; make an optimiser"):
        sgd(weights, listener=Mirror(torch.zeros(2, 3)))


def test_gradients_of_single_entries_are_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    weight.grad = torch.eye(2).to_sparse()
    with pytest.raises(ValueError, match=r"one sparse dimension \(whole rows\), got 2; build it as"):
        sgd([weight]).step()
    assert not weight.any()
