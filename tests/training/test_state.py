from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qmargin.heads import HeadConfig
from qmargin.optim import RowSGD
from qmargin.training import TrainConfig
from qmargin.training.checkpoint import open_checkpoint, save_checkpoint
from qmargin.training.state import TrainingState, _settings, check_device
from qmargin.training.weights import load_weights

CLASSES = 5


def step(state: TrainingState) -> None:
    images = torch.randn(4, 1, 28, 23)
    state.zero_grad()
    state.head(state.backbone(images), torch.arange(4)).backward()
    state.update()


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Leaves by path, tensors copied: a state dict holds those in use."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {key: value for part, node in items for key, value in flat(node, f"{name}/{part}").items()}
    return {name: tree.clone() if isinstance(tree, torch.Tensor) else repr(tree)}


def assert_same(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state.keys() == other.keys()
    different = [name for name, leaf in state.items() if not same(leaf, other[name])]
    assert different == []


def same(leaf: Any, other: Any) -> bool:
    return torch.equal(leaf, other) if isinstance(leaf, torch.Tensor) else bool(leaf == other)


@pytest.mark.parametrize("kind", ["dense", "streaming"])
def test_a_state_restores_weights_momentum_step_and_generator(tiny: TrainConfig, tmp_path: Path, kind: Any) -> None:
    config = replace(tiny, head=HeadConfig(kind=kind))
    state = TrainingState.create(config, CLASSES)
    for _ in range(3):
        step(state)
    saved = flat(state.state_dict())
    save_checkpoint(state.state_dict(), tmp_path / "c")
    drawn = torch.rand(3)
    other = TrainingState.create(replace(config, seed=9), CLASSES)
    step(other)  # so that what is derived from its weights exists
    with open_checkpoint(tmp_path / "c") as opened:
        other.load_state_dict(opened)
    restored = flat(other.state_dict())
    assert torch.equal(torch.rand(3), drawn)
    assert other.step == 3
    assert "/optimizers/head/state/0/momentum_buffer" in saved
    assert_same(restored, saved)
    for run in (state, other):
        torch.manual_seed(1)
        step(run)
    assert_same(flat(other.state_dict()), flat(state.state_dict()))


def test_both_optimizers_follow_the_learning_rate(tiny: TrainConfig) -> None:
    state = TrainingState.create(tiny, CLASSES)
    state.set_learning_rate(0.125)
    assert [group["lr"] for optimizer in state.optimizers.values() for group in optimizer.param_groups] == [0.125] * 2


@pytest.mark.parametrize(
    ("classes", "change", "law"),
    [
        (
            CLASSES + 1,
            {},
            r"DenseHead: .* mismatch for weight: \(5, 16\) float32 in the checkpoint, \(6, 16\)",
        ),
        (
            CLASSES,
            {"width": 8},
            r"IResNet: .* mismatch for conv1.weight: \(4, 1, 3, 3\) .* \(8, 1, 3, 3\) float32 here",
        ),
        (CLASSES, {"blocks": (1, 1, 1, 2)}, r"IResNet: layer4.1.bn1.weight is missing in it; was config.json edited"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_changed(
    tiny: TrainConfig, tmp_path: Path, classes: int, change: dict[str, Any], law: str
) -> None:
    save_checkpoint(TrainingState.create(tiny, CLASSES).state_dict(), tmp_path / "c")
    config = replace(tiny, seed=9, backbone=replace(tiny.backbone, **change))
    other = TrainingState.create(config, classes)
    before = flat(other.state_dict())
    with open_checkpoint(tmp_path / "c") as opened, pytest.raises(ValueError, match=f"does not fit the config's {law}"):
        other.load_state_dict(opened)
    assert_same(flat(other.state_dict()), before)


def test_weights_too_many_and_momentum_of_another_shape_are_refused(tiny: TrainConfig, tmp_path: Path) -> None:
    state = TrainingState.create(tiny, CLASSES)
    step(state)
    tree = state.state_dict()
    tree["optimizers"]["head"]["state"]["0"]["momentum_buffer"] = torch.zeros(2, 16)
    tree["head"]["extra"] = torch.zeros(1)
    save_checkpoint(tree, tmp_path / "c")
    with open_checkpoint(tmp_path / "c") as opened:
        with pytest.raises(ValueError, match=r"DenseHead: extra is not in the network"):
            load_weights(state.head, opened["head"])
        del opened["head"]["extra"]
        with pytest.raises(ValueError, match=r"its momentum_buffer is \(2, 16\) float32, for a weight \(5, 16\)"):
            state.load_state_dict(opened)


def test_a_checkpoint_with_one_optimizer_for_everything_is_refused(tiny: TrainConfig) -> None:
    with pytest.raises(ValueError, match=r"had one optimizer for backbone and head.*evaluate the run as it is"):
        TrainingState.create(tiny, CLASSES).load_state_dict({"step": 1, "optimizer": {}})


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_cannot_compute_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot compute on device '{device}': .*--device cpu works everywhere"):
        check_device(device)


def test_settings_of_a_sharded_head_s_optimizer_fit_that_of_a_dense_one() -> None:
    """A run of several ranks is resumed by one, whose small head has torch.optim.SGD."""
    weight = torch.nn.Parameter(torch.ones(2, 2))
    rows, dense = RowSGD([weight], lr=0.3, momentum=0.9), torch.optim.SGD([weight], lr=0.1)
    for target, source in ((dense, rows), (rows, dense)):
        (group,) = _settings(target, source.state_dict()["param_groups"])
        target.load_state_dict({"state": {}, "param_groups": [group]})
        assert target.param_groups[0]["lr"] == 0.3
        weight.grad = torch.ones(2, 2)
        target.step()
