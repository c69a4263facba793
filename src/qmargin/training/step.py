"""One step of gradient descent, to be read from top to bottom."""

import warnings
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.data import Batch
from qmargin.data.speech import SpeechBatch
from qmargin.heads import HeadStats
from qmargin.training.config import TrainConfig
from qmargin.training.guard import NonFiniteError, first_bad_gradient, first_bad_layer, gradient_values
from qmargin.training.parallel import exchanging, whole
from qmargin.training.schedule import learning_rate
from qmargin.training.state import TrainingState

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
LEAST_LOSS_SCALE = 1.0  # a gradient that overflows unscaled will not be saved by a smaller scale


class StepResult(NamedTuple):
    """What a step measured, on the device, and the settings it was done with."""

    stats: HeadStats
    numbers: dict[str, Tensor]
    settings: dict[str, float]


def train_step(
    state: TrainingState,
    batch: Batch | SpeechBatch,
    config: TrainConfig,
    steps: int,
    steps_per_epoch: int | None = None,
) -> StepResult:
    """One step of gradient descent: gradients of all parts of the batch, clipping, update, mean of the weights.

    Args:
        state: is moved on by one step.
        batch: its images or segments.
        config: of the run.
        steps: of the whole training, for the schedules.
        steps_per_epoch: for a mean of one state an epoch (`averaging.every` None).

    Raises:
        NonFiniteError: a loss or gradient is not finite; no weight was moved. In float16 an overflow of the gradient
            leaves the step out instead, and the loss is scaled less.
    """
    optimizer = config.optimizer
    rate = learning_rate(
        state.step, steps, optimizer.learning_rate, optimizer.warmup, optimizer.decay, optimizer.final_learning_rate
    )
    state.set_learning_rate(rate)
    state.head.loss = loss = config.loss.at(state.step / steps, state.controlled)

    state.zero_grad()
    value, stats = _accumulate(state, batch, config)
    norms = _prototype_norms(state)
    norm, overflow = _clipped(state, optimizer.clip_norm, norms.total)
    state.update(overflow=overflow)
    if state.average is not None and config.averaging.is_due(state.step, steps, steps_per_epoch):
        state.average.update_parameters(state.backbone)
    if config.loss.support is not None and state.controlled is not None:
        support = float(stats.support_size)
        state.controlled = config.loss.support.updated(state.controlled, support, state.step / steps)
    return StepResult(
        stats,
        {
            "loss": value,
            "gradient_norm": norm,
            "prototypes_taught": norms.taught,
            "prototypes_effective": norms.total.square() / norms.squares.clamp_min(1e-300),  # 0 where all are 0
        },
        {"learning_rate": rate, "alpha": loss.alpha, "scale": loss.scale, "margin": loss.margin.m},
    )


def _accumulate(state: TrainingState, batch: Batch | SpeechBatch, config: TrainConfig) -> tuple[Tensor, HeadStats]:
    """Gradients of the mean loss of a batch, part after part; that loss and the statistics, means over the parts."""
    parts = config.gradient_accumulation
    scale, as_of = state.head.loss.scale, config.optimizer.as_of_scale
    divisor = parts * (1.0 if as_of is None else scale / as_of)
    losses: list[Tensor] = []
    stats: list[HeadStats] = []
    pieces = zip(batch.inputs.chunk(parts), batch.labels.chunk(parts), strict=True)
    for number, (part, own) in enumerate(pieces, start=1):
        inputs = config.data.prepared(part.to(config.device, non_blocking=True))  # (batch / parts, ...)
        labels = own.to(config.device, non_blocking=True)  # (batch / parts,)
        if config.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with exchanging(state.forward, now=number == parts):
            with _precision(config):
                embeddings = state.forward(inputs)  # (batch / parts, dim)
            value = _finite_loss(state, config, inputs, embeddings, labels)
            state.scaler.scale(value / divisor).backward()  # parts are equal: the mean of their means is the batch's
        losses.append(value.detach())
        stats.append(state.head.stats)
    return torch.stack(losses).mean(), _mean(stats)


def _mean(stats: list[HeadStats]) -> HeadStats:
    """Means over equal parts; of what is counted the sum."""
    names = [field.name for field in fields(HeadStats)]
    means = {name: torch.stack([getattr(part, name) for part in stats]).mean() for name in names}
    means["fallback_rows"] = means["fallback_rows"] * len(stats)
    return HeadStats(**means)


class PrototypeNorms(NamedTuple):
    """Of the norms r_j of the prototypes' gradients, over all ranks; 0-dimensional float64."""

    total: Tensor  # sum_j r_j
    squares: Tensor  # sum_j r_j^2
    taught: Tensor  # number of r_j > 0


def _prototype_norms(state: TrainingState) -> PrototypeNorms:
    """Sums of the norms of the prototypes' gradients, unscaled."""
    with warnings.catch_warnings():  # of a scalar that torch itself passes, where weights are shared out
        warnings.filterwarnings("ignore", message="Found a non-scalar tensor with numel=1")
        for optimizer in state.optimizers.values():
            state.scaler.unscale_(optimizer)
    assert state.head.weight.grad is not None, "the loss depends on the prototypes"
    norms = torch.linalg.vector_norm(gradient_values(state.head.weight.grad), dim=1).double()  # (classes taught,)
    sums = torch.stack([norms.sum(), norms.square().sum(), norms.count_nonzero().double()])
    return PrototypeNorms(*state.head.ranks.total(sums))


def _clipped(state: TrainingState, clip_norm: float, prototypes: Tensor) -> tuple[Tensor, bool]:
    """Shorten the backbone's gradient to `clip_norm`; its norm before, and whether float16 overflowed (norm inf)."""
    moved = [parameter for parameter in state.backbone.parameters() if parameter.grad is not None]
    own_norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in moved if parameter.grad is not None])
    norm = whole(own_norm)
    if bool((norm + prototypes).isfinite()):  # before clipping, which would spread one NaN to every gradient
        torch.nn.utils.clip_grads_with_norm_(moved, clip_norm, own_norm)
        return norm, False
    if state.scaler.is_enabled() and state.scaler.get_scale() > LEAST_LOSS_SCALE:
        return torch.full_like(norm, torch.inf), True
    where = first_bad_gradient({"backbone": state.backbone, "head": state.head})
    raise NonFiniteError(f"the gradient is not finite ({where})")


def _precision(config: TrainConfig) -> torch.autocast:
    """The precision of the backbone."""
    dtype = DTYPES.get(config.precision)
    return torch.autocast(torch.device(config.device).type, dtype or torch.bfloat16, enabled=dtype is not None)


def _finite_loss(
    state: TrainingState, config: TrainConfig, inputs: Tensor, embeddings: Tensor, labels: Tensor
) -> Tensor:
    try:
        value: Tensor = state.head(embeddings, labels)
    except ValueError as error:
        with _precision(config):
            raise NonFiniteError(f"{error} ({first_bad_layer(state.backbone, inputs)})") from error
    if not bool(value.isfinite()):
        with _precision(config):
            raise NonFiniteError(f"the loss is {value.item()} ({first_bad_layer(state.backbone, inputs)})")
    return value
