"""What one step does: parts of a batch, scaled losses, rates of the head."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qmargin.data import Batch
from qmargin.heads import HeadConfig
from qmargin.losses import AlphaLoss, ArcFace, QMargin, ScheduledLoss
from qmargin.recipes import find_recipe
from qmargin.training import AveragingConfig, TrainConfig
from qmargin.training.guard import NonFiniteError
from qmargin.training.state import TrainingState
from qmargin.training.step import train_step

CLASSES, SIZE = 12, 24
Update = Any  # a literal that pytest delivers as text


class Plain(nn.Module):
    """A network without batch norm: the gradient of a batch is the mean of those of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(28 * 23, 20)
        self.second = nn.Linear(20, 16)

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.second(torch.tanh(self.first(images.flatten(1))))
        return embeddings


def batch(step: int) -> Batch:
    draw = np.random.default_rng(step)
    images = torch.from_numpy(draw.integers(0, 256, (SIZE, 1, 28, 23)).astype(np.uint8))
    return Batch(step, images, torch.from_numpy(draw.integers(0, CLASSES, SIZE)), np.arange(SIZE))


def plain_state(config: TrainConfig) -> TrainingState:
    """The state of a config with the plain network in the place of its own."""
    state = TrainingState.create(config, CLASSES)
    torch.manual_seed(5)
    state.backbone = state.forward = Plain()
    settings = config.optimizer
    state.optimizers["backbone"] = torch.optim.SGD(state.backbone.parameters(), settings.learning_rate, 0.9)
    return state


@pytest.mark.parametrize("update", ["dense", "lazy"])
@pytest.mark.parametrize("loss", ["qmargin", "arcface"])
def test_parts_of_a_batch_train_as_the_whole_batch(tiny: TrainConfig, update: Update, loss: str) -> None:
    """Five steps of the streaming head with either update, and of the dense head: accumulation averages."""
    kinds: list[Any] = ["streaming"] if update == "lazy" else ["dense", "streaming"]
    for kind in kinds:
        config = replace(
            tiny,
            batch_size=SIZE,
            loss=find_recipe("faces-orl").losses[loss],
            head=HeadConfig(kind=kind, update=update),
        )
        states, results = [], []
        for parts in (1, 4):
            state = plain_state(config)
            split = replace(config, gradient_accumulation=parts)
            results.append([train_step(state, batch(step), split, 10) for step in range(5)])
            states.append(state)
        for whole, accumulated in zip(*results, strict=True):
            torch.testing.assert_close(accumulated.numbers, whole.numbers, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(accumulated.stats.support_size, whole.stats.support_size)
            torch.testing.assert_close(accumulated.stats.accuracy, whole.stats.accuracy)
        for name in ("backbone", "head"):
            first, second = (getattr(state, name).state_dict() for state in states)
            torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-6)


def test_accumulation_that_summed_would_be_seen(tiny: TrainConfig) -> None:
    """The comparison above is sharp: one part of a batch more or less moves the weights elsewhere."""
    config = replace(tiny, batch_size=SIZE)
    state, other = plain_state(config), plain_state(config)
    train_step(state, batch(0), config, 10)
    train_step(other, batch(0), replace(config, optimizer=replace(config.optimizer, learning_rate=0.2)), 10)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(state.head.weight, other.head.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("as_of", [1.0, 7.0])
def test_a_loss_as_of_another_scale_moves_the_weights_as_another_rate_does(
    tiny: TrainConfig, parts: int, as_of: float
) -> None:
    """Without weight decay and clipping, L a / s at a rate is L at that rate times a / s; the logged loss is L."""
    config = replace(tiny, batch_size=SIZE, gradient_accumulation=parts)
    scale = config.loss.final.scale / as_of
    settings = replace(config.optimizer, weight_decay=0.0, clip_norm=1e6, learning_rate=0.3 / as_of)
    over = replace(config, optimizer=replace(settings, as_of_scale=as_of))
    plain = replace(config, optimizer=replace(settings, learning_rate=settings.learning_rate / scale))
    states = [plain_state(each) for each in (over, plain)]
    for step in range(3):
        losses = [
            train_step(state, batch(step), each, 10).numbers for state, each in zip(states, (over, plain), strict=True)
        ]
        torch.testing.assert_close(losses[0]["loss"], losses[1]["loss"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(scale * losses[0]["gradient_norm"], losses[1]["gradient_norm"], rtol=1e-3, atol=1e-6)
    first, second = (state.head.weight for state in states)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_the_heads_rate_and_decay_are_multiples_of_the_backbones(tiny: TrainConfig) -> None:
    settings = replace(tiny.optimizer, head_learning_rate_factor=3.0, head_weight_decay_factor=0.0)
    state = TrainingState.create(replace(tiny, optimizer=settings), CLASSES)
    state.set_learning_rate(0.125)
    groups = {name: optimizer.param_groups[0] for name, optimizer in state.optimizers.items()}
    assert (groups["backbone"]["lr"], groups["head"]["lr"]) == (0.125, 0.375)
    assert (groups["backbone"]["weight_decay"], groups["head"]["weight_decay"]) == (settings.weight_decay, 0.0)


@contextmanager
def scale_of(state: TrainingState, scale: float) -> Iterator[None]:
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": scale})
    yield


def test_float16_moves_the_weights_as_float32_does_to_its_precision(tiny: TrainConfig) -> None:
    states = {}
    for precision in ("float32", "float16"):
        config = replace(tiny, batch_size=SIZE, precision=precision)
        states[precision] = plain_state(config)
        for step in range(3):
            train_step(states[precision], batch(step), config, 10)
    moved, exact = (states[precision].backbone.state_dict() for precision in ("float16", "float32"))
    torch.testing.assert_close(moved, exact, rtol=2e-2, atol=2e-3)
    assert not torch.equal(moved["first.weight"], exact["first.weight"])
    assert states["float16"].scaler.get_scale() == 65536.0


@pytest.mark.parametrize("kind", ["dense", "streaming"])
def test_a_float16_step_that_overflows_is_left_out_and_the_loss_scaled_less(tiny: TrainConfig, kind: Any) -> None:
    config = replace(tiny, batch_size=SIZE, precision="float16", head=HeadConfig(kind=kind))
    state = plain_state(config)
    before = {name: tensor.clone() for name, tensor in state.head.state_dict().items()}
    with scale_of(state, 2.0**40):  # float16 ends at 65504
        result = train_step(state, batch(0), config, 10)
    assert torch.isinf(result.numbers["gradient_norm"])
    assert state.step == 1
    assert state.scaler.get_scale() == 2.0**39
    torch.testing.assert_close(state.head.state_dict(), before, rtol=0, atol=0)
    while torch.isinf(train_step(state, batch(state.step), config, 100).numbers["gradient_norm"]):
        assert state.step < 50
    assert not torch.equal(state.head.weight, before["weight"])


def test_a_gradient_that_is_never_finite_ends_training_at_loss_scale_one(tiny: TrainConfig) -> None:
    config = replace(tiny, batch_size=SIZE, precision="float16")
    state = plain_state(config)
    state.backbone.first.weight.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[operator,union-attr] # of Plain
    with scale_of(state, 4.0):
        for _ in range(2):
            train_step(state, batch(0), config, 10)
    with pytest.raises(NonFiniteError, match=r"the gradient is not finite \(first seen in the gradient of backbone"):
        train_step(state, batch(0), config, 10)


def test_the_exponential_mean_is_that_of_the_formula(tiny: TrainConfig) -> None:
    config = replace(tiny, batch_size=SIZE, averaging=AveragingConfig(ema=0.75))
    state = TrainingState.create(config, CLASSES)
    assert state.evaluated is state.backbone
    seen: list[dict[str, Tensor]] = []
    for step in range(4):
        train_step(state, batch(step), config, 10)
        seen.append({name: tensor.clone() for name, tensor in state.backbone.state_dict().items()})
    assert state.evaluated is not state.backbone
    for name, tensor in state.evaluated.state_dict().items():
        if tensor.is_floating_point():
            expected = seen[0][name].double()
            for later in seen[1:]:
                expected = 0.75 * expected + 0.25 * later[name].double()
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_last_states_is_plain(tiny: TrainConfig) -> None:
    config = replace(tiny, batch_size=SIZE, averaging=AveragingConfig(last=3, every=2))
    state = TrainingState.create(config, CLASSES)
    seen: dict[int, Tensor] = {}
    for step in range(9):
        train_step(state, batch(step), config, 9)
        seen[step + 1] = state.backbone.state_dict()["layer1.0.conv1.weight"].clone()
    expected = (seen[5] + seen[7] + seen[9]) / 3
    found = state.evaluated.state_dict()["layer1.0.conv1.weight"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert int(state.evaluated.state_dict()["bn1.num_batches_tracked"]) in (6, 7, 8)


def test_a_compiled_backbone_trains_as_the_plain_one(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's graph capture and autograd, but without a C++ compiler, whose work is not ours to test."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: compile_(network, backend="aot_eager"))
    config = replace(tiny, batch_size=SIZE, backbone=replace(tiny.backbone, dropout=0.0))  # type: ignore[arg-type] # an IResNet
    losses = {}
    for compiled in (False, True):
        own = replace(config, compile=compiled)
        state = TrainingState.create(own, CLASSES)
        assert (state.forward is state.backbone) is not compiled
        losses[compiled] = [float(train_step(state, batch(step), own, 10).numbers["loss"]) for step in range(3)]
        assert not any(name.startswith("_orig_mod") for name in state.state_dict()["backbone"])
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


@pytest.mark.parametrize("kind", ["dense", "streaming"])
@pytest.mark.parametrize("loss", [QMargin(2.0, 0.1, 64.0), ArcFace(0.3, 8.0)])
def test_prototypes_taught_are_those_with_a_gradient(tiny: TrainConfig, kind: Any, loss: AlphaLoss) -> None:
    """Against autograd on the plain formula: whose gradient is not zero, and how even the gradients are."""
    config = replace(tiny, batch_size=SIZE, loss=ScheduledLoss(name="one", final=loss), head=HeadConfig(kind=kind))
    state, images = plain_state(config), replace(batch(0), labels=batch(0).labels % 3)
    weight = state.head.weight.detach().clone().requires_grad_()
    with torch.no_grad():
        embeddings = state.backbone(config.data.prepared(images.inputs))
    cosines = nn.functional.normalize(embeddings) @ nn.functional.normalize(weight).T  # (batch, classes)
    loss(cosines, images.labels).mean().backward()
    assert weight.grad is not None
    norms = weight.grad.norm(dim=1).double()
    numbers = train_step(state, images, config, 10).numbers
    assert numbers["prototypes_taught"] == (norms > 0).sum()
    assert (loss.alpha > 1.0) == (int(numbers["prototypes_taught"]) < CLASSES)
    torch.testing.assert_close(numbers["prototypes_effective"], norms.sum() ** 2 / (norms**2).sum(), rtol=1e-4, atol=0)
