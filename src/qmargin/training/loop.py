"""The training loop, to be read from top to bottom."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from qmargin.data import Batch, ShuffledBatches, write_manifest
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech import SpeechBatch
from qmargin.training.checkpoint import State, open_checkpoint, save_checkpoint
from qmargin.training.config import TrainConfig
from qmargin.training.folder import RunFolder
from qmargin.training.guard import (
    NonFiniteError,
    first_bad_gradient,
    first_bad_layer,
    gradient_values,
    naming_the_batch,
)
from qmargin.training.log import TrainingLog
from qmargin.training.schedule import learning_rate
from qmargin.training.state import TrainingState


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop and is whole
    """The run was stopped by a signal after writing a checkpoint."""


def train(config: TrainConfig, out: Path, *, resume: bool = False, title: str | None = None) -> RunFolder:
    """Train one run into the folder `out`; a killed run continues with `resume` to the same weights.

    On the CPU, with the same number of threads, "the same" is bit for bit.

    Args:
        config: the whole setting.
        out: folder of the run; created where missing.
        resume: continue the run in `out` from its newest checkpoint (from the start if it has none yet).
        title: text before the progress bar; the loss's name unless said.

    Returns:
        The run's folder: config, manifest, checkpoint, log.

    Raises:
        ValueError: bad settings, data or folder; a loss or gradient that is not finite (before any weight moved).
        Interrupted: SIGINT or SIGTERM arrived; the checkpoint of the last whole step is written.
    """
    run = RunFolder(out)
    manifest = read_samples(config)
    samples = manifest.subset("train")
    order = ShuffledBatches(len(samples), config.batch_size, config.seed)
    steps = config.epochs * order.steps_per_epoch
    steps = steps if config.max_steps is None else min(steps, config.max_steps)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    state = TrainingState.create(
        config, config.data.num_classes(samples)
    )  # before the folder: a bad device leaves nothing behind

    def checkpoint() -> None:
        progress = {"sampler": order.state_dict(state.step), "manifest": manifest.digest, "steps": steps}
        save_checkpoint({**state.state_dict(), **progress}, run.checkpoint)

    with run.locked():
        run.open(config, resume=resume)
        if run.checkpoint.exists():
            with open_checkpoint(run.checkpoint) as saved:
                order.check_state(saved["sampler"])
                check_manifest(manifest, saved, run)
                state.load_state_dict(saved)
        else:
            write_manifest(manifest, run.manifest)
        if state.step == steps:
            return run
        state.backbone.train()
        batches = config.data.batches(samples, order)
        log = TrainingLog(run, start=state.step, steps=steps, every=config.log_every, title=title or config.loss.name)
        with log, stop_on_signals() as stopping, closing(batches.iterate(state.step, steps)) as stream:
            for batch in stream:
                with naming_the_batch(state.step, [samples.path(index) for index in batch.indices], out):
                    numbers, settings = train_step(state, batch, config, steps)
                settings["epoch"] = state.step / order.steps_per_epoch
                log.add(state.step, len(batch.labels), state.head.stats, numbers, settings)
                if state.step % config.checkpoint_every == 0 or state.step == steps or stopping():
                    checkpoint()
                if stopping() and state.step < steps:
                    raise Interrupted(f"stopped after step {state.step} of {steps}; continue with --resume")
    return run


def train_step(
    state: TrainingState, batch: Batch | SpeechBatch, config: TrainConfig, steps: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """One step of gradient descent; returns what was measured (on the device) and the settings it was done with."""
    settings = config.optimizer
    rate = learning_rate(
        state.step, steps, settings.learning_rate, settings.warmup, settings.decay, settings.final_learning_rate
    )
    state.set_learning_rate(rate)
    state.head.loss = loss = config.loss.at(state.step / steps)

    inputs = config.data.prepared(batch.inputs.to(config.device, non_blocking=True))  # (batch, ...)
    labels = batch.labels.to(config.device, non_blocking=True)  # (batch,)
    with _precision(config):
        embeddings = state.backbone(inputs)  # (batch, dim)
    value = _finite_loss(state, config, inputs, embeddings, labels)

    state.zero_grad()
    value.backward()
    moved = [parameter for parameter in state.backbone.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in moved if parameter.grad is not None])
    assert state.head.weight.grad is not None, "the loss depends on the prototypes"
    head_norm = torch.linalg.vector_norm(gradient_values(state.head.weight.grad))
    if not bool((norm + head_norm).isfinite()):  # before clipping, which would spread one NaN to every gradient
        where = first_bad_gradient({"backbone": state.backbone, "head": state.head})
        raise NonFiniteError(f"the gradient is not finite ({where})")
    torch.nn.utils.clip_grads_with_norm_(moved, settings.clip_norm, norm)
    state.update()
    return (
        {"loss": value, "gradient_norm": norm},
        {"learning_rate": rate, "alpha": loss.alpha, "scale": loss.scale, "margin": loss.margin.m},
    )


def _precision(config: TrainConfig) -> torch.autocast:
    """The precision of the backbone."""
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bfloat16")


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


def read_samples(config: TrainConfig) -> SampleTable:
    """The manifest of a config, with its validation identities held out."""
    manifest: SampleTable = config.data.source.read()
    held_out = config.data.validation_identities
    return manifest.hold_out(held_out, config.data.validation_seed) if held_out else manifest


def check_manifest(manifest: SampleTable, saved: State, run: RunFolder) -> None:
    """Refuse to go on from a checkpoint of other images or identities."""
    if saved["manifest"] != manifest.digest:
        raise ValueError(
            f"the images, identities or splits are not those that {run.path} was trained on (listed in "
            f"{run.manifest.name}): put them back, or train a new run in another folder"
        )


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGINT or SIGTERM arrived; a second one ends the process as usual."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield lambda: False
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}  # as nohup does

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
