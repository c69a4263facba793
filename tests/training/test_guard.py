from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qmargin import QMargin, StreamingHead
from qmargin.heads import HeadConfig
from qmargin.training import TrainConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.guard import (
    NonFiniteError,
    first_bad_gradient,
    first_bad_layer,
    gradient_values,
    naming_the_batch,
)
from qmargin.training.state import TrainingState


class Poison(nn.Module):
    """Passes its input on, with one NaN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_fill(1, torch.tensor([0]), float("nan"))


def test_the_first_layer_with_a_bad_output_is_named() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Poison(), nn.Linear(4, 2))
    assert first_bad_layer(network, torch.randn(5, 3)) == "first seen in the output of backbone.2 (Poison)"
    assert first_bad_layer(network[:2], torch.randn(5, 3)) == "every layer of the backbone is finite"
    assert not any(module._forward_hooks for module in network.modules())


def test_the_first_parameter_with_a_bad_gradient_is_named() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network(torch.randn(5, 3)).sum().backward()
    assert "their norm is not" in first_bad_gradient({"backbone": network})
    gradient = network.get_parameter("1.weight").grad
    assert gradient is not None
    gradient[0, 0] = float("inf")
    assert first_bad_gradient({"backbone": network}) == "first seen in the gradient of backbone.1.weight"


def test_a_sparse_gradient_is_judged_by_its_values() -> None:
    head = StreamingHead(50, 4, QMargin(scale=64.0))
    head(torch.randn(3, 4), torch.arange(3)).backward()
    gradient = head.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert torch.linalg.vector_norm(gradient_values(gradient)) == torch.linalg.vector_norm(gradient.to_dense())
    assert "their norm is not" in first_bad_gradient({"head": head})
    head.weight.grad = gradient * float("inf")
    assert first_bad_gradient({"head": head}) == "first seen in the gradient of head.weight"


def test_values_of_rows_that_are_listed_twice_are_added() -> None:
    twice = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([[3.0], [1.0]]), (4, 1), check_invariants=True)
    assert gradient_values(twice).tolist() == [[4.0]]


@pytest.mark.parametrize("kind", ["dense", "streaming"])
def test_a_head_gradient_that_is_not_finite_stops_training(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    create = TrainingState.create

    def poisoned(config: TrainConfig, *rest: Any) -> TrainingState:
        state = create(config, *rest)
        state.head.weight.register_hook(lambda gradient: gradient * float("nan"))
        return state

    monkeypatch.setattr(TrainingState, "create", poisoned)
    with pytest.raises(ValueError, match=r"the gradient is not finite \(first seen in the gradient of head\.weight\)"):
        train(replace(tiny, head=HeadConfig(kind=kind)), tmp_path / "run")


def test_the_message_names_step_batch_and_way_out() -> None:
    with (
        pytest.raises(
            ValueError, match=r"before step 3, .* in here is untouched: broken\. The batch was a, b, c and 2 more\.$"
        ),
        naming_the_batch(3, list("abcde"), Path("here")),
    ):
        raise ValueError("broken")
    with (
        pytest.raises(ValueError, match=r"NaN\. The batch was a\. Lower optimizer.learning_rate"),
        naming_the_batch(3, ["a"], Path("here")),
    ):
        raise NonFiniteError("NaN")


def test_training_stops_before_the_step_that_would_ruin_the_weights(tiny: TrainConfig, tmp_path: Path) -> None:
    """A learning rate of 1e30 makes the second step's embeddings overflow: the checkpoint of the first is kept."""
    wild = replace(tiny, optimizer=replace(tiny.optimizer, learning_rate=1e30, warmup=0.0), checkpoint_every=1)
    with pytest.raises(ValueError, match=r"training stopped before step 1, no weight was changed .*backbone\..*s\d+/"):
        train(wild, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["step"] == 1


def test_a_gradient_with_one_bad_number_is_named_by_its_own_parameter(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TrainingState.create

    def poisoned(config: TrainConfig, *rest: Any) -> TrainingState:
        state = create(config, *rest)
        state.backbone.get_parameter("fc.bias").register_hook(lambda gradient: gradient * float("nan"))
        return state

    monkeypatch.setattr(TrainingState, "create", poisoned)
    with pytest.raises(ValueError, match=r"first seen in the gradient of backbone\.fc\.bias"):
        train(tiny, tmp_path / "run")
