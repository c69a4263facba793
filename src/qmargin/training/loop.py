"""The training loop, to be read from top to bottom."""

from contextlib import closing
from pathlib import Path

import torch

from qmargin.data import ShuffledBatches, write_manifest
from qmargin.data.sample_table import SampleTable
from qmargin.training.agreement import check_folder, check_restarts, check_settings
from qmargin.training.checkpoint import State
from qmargin.training.checkpoints import Checkpoints
from qmargin.training.codec import to_json
from qmargin.training.config import TrainConfig
from qmargin.training.folder import RunFolder
from qmargin.training.guard import naming_the_batch
from qmargin.training.initial import load_initial
from qmargin.training.model_file import model_input
from qmargin.training.newest import newest_state
from qmargin.training.ranks import World, processes
from qmargin.training.sampling import training_order
from qmargin.training.signals import Interrupted, stop_on_signals
from qmargin.training.speech_data import SpeechDataConfig
from qmargin.training.state import TrainingState
from qmargin.training.step import train_step
from qmargin.training.validation import Validate, Validation


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    title: str | None = None,
    validate: Validate | None = None,
) -> RunFolder:
    """Train one run into the folder `out`; a killed run continues with `resume` to the same weights.

    On the CPU, with the same number of threads, "the same" is bit for bit. Started by torchrun, the processes train one
    run together, that of one process up to rounding: docs/sharding.md.

    Args:
        config: the whole setting.
        out: folder of the run; created where missing.
        resume: continue the run in `out` from its newest checkpoint (from the start if it has none yet).
        title: text before the progress bar; the loss's name unless said.
        validate: computes the figures of `config.validation`: `qmargin.protocols.training_validator(config)`.

    Returns:
        The run's folder: config, manifest, checkpoint, log.

    Raises:
        ValueError: bad settings, data or folder; a loss or gradient that is not finite (before any weight moved).
        Interrupted: SIGINT or SIGTERM arrived; the checkpoint of the last whole step is written.
    """
    check_restarts(resume=resume)
    with processes(config.device) as world:
        return _train(config, RunFolder(out), world, resume, title or config.loss.name, validate)


def _train(
    config: TrainConfig, run: RunFolder, world: World, resume: bool, title: str, validate: Validate | None
) -> RunFolder:
    manifest = read_samples(config)
    check_settings(world, config, manifest)
    samples = manifest.subset("train")
    labels = samples.labels  # (images,)
    balance = config.data.class_balance
    order = training_order(labels, world.share(config.batch_size), config.seed, balance, world.rank, world.size)
    whole = training_order(labels, config.batch_size, config.seed, balance)  # the same for any number of ranks
    steps = _steps(config, order)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    validation = Validation(config, validate, run.best)
    counts = torch.from_numpy(config.data.class_counts(samples))  # (classes,)
    # before the folder: a bad device leaves no trace
    state = TrainingState.create(config, len(counts), counts, world)
    _initialise(config, state, run)

    def whole_state() -> State:
        progress = {"sampler": whole.state_dict(state.step), "manifest": manifest.digest, "steps": steps}
        progress["input"] = to_json(model_input(config))
        return {**state.state_dict(), "validation": validation.state_dict(), **progress}

    with world.locked(run):
        world.first(lambda: run.open(config, resume=resume))
        check_folder(world, run)
        with newest_state(run, state.head) as saved:
            if saved is not None:
                whole.check_state(saved["sampler"])
                check_manifest(manifest, saved, run)
                state.load_state_dict(saved)
                validation.load_state_dict(saved.get("validation", {}))
            else:
                world.first(lambda: write_manifest(manifest, run.manifest))
        if state.step == steps or validation.watched.done:
            world.merge(run)  # where the last attempt ended before it
            return run
        state.backbone.train()
        batches = config.data.batches(samples, order)
        log = world.log(run, start=state.step, steps=steps, every=config.log_every, title=title)
        with (
            log,
            stop_on_signals() as stopping,
            closing(Checkpoints(run, world, state.head, background=config.checkpoint_in_background)) as checkpoints,
            closing(batches.iterate(state.step, steps)) as stream,
        ):
            for batch in stream:
                world.seed_dropout(config.seed, state.step)
                with naming_the_batch(state.step, [samples.path(index) for index in batch.indices], run.path):
                    stats, numbers, settings = train_step(state, batch, config, steps)
                settings["epoch"] = state.step / order.steps_per_epoch
                log.add(state.step, len(batch.labels) * world.size, stats, numbers, settings)
                enough, stop = world.any(validation.after(state, steps, log), stopping(), refusal=checkpoints.refusal())
                last = state.step == steps or enough or stop
                if last or state.step % config.checkpoint_every == 0:
                    checkpoints.save(whole_state())
                if last:
                    checkpoints.wait()
                    world.merge(run)
                if enough:
                    break
                if stop and state.step < steps:
                    raise Interrupted(f"stopped after step {state.step} of {steps}; continue with --resume")
    return run


def _steps(config: TrainConfig, order: ShuffledBatches) -> int:
    steps = config.epochs * order.steps_per_epoch
    return steps if config.max_steps is None else min(steps, config.max_steps)


def _initialise(config: TrainConfig, state: TrainingState, run: RunFolder) -> None:
    """First weights that are not from chance, where asked for and the run is new."""
    if config.init_from is not None and not run.has_checkpoint():
        speeds = config.data.augmentation.blocks if isinstance(config.data, SpeechDataConfig) else None
        load_initial(config.init_from, state.backbone, state.head if config.init_head else None, speeds)


def read_samples(config: TrainConfig) -> SampleTable:
    """The manifest of a config, with its validation identities held out.

    Raises:
        ValueError: other counts than the config expects, and what the source refuses.
    """
    manifest: SampleTable = config.data.source.read()
    _check_counts(manifest, config)
    held_out = config.data.validation_identities
    return manifest.hold_out(held_out, config.data.validation_seed) if held_out else manifest


def _check_counts(manifest: SampleTable, config: TrainConfig) -> None:
    """A recipe of a public set names its size: a copy of another size is another set, and its figures another's."""
    expected = config.data.expected
    if any(count is not None for count in expected.values()):
        samples = manifest.subset("train")
        found = {"images": len(samples), "identities": samples.num_classes}
        for what, count in expected.items():
            if count is not None and found[what] != count:
                raise ValueError(
                    f"the recipe {config.recipe} is for {count:,} training {what}, the source has {found[what]:,}: is "
                    f"it another version of the set? To train on it all the same, set data.expected_{what}"
                )


def check_manifest(manifest: SampleTable, saved: State, run: RunFolder) -> None:
    """Refuse to go on from a checkpoint of other images or identities."""
    if saved["manifest"] != manifest.digest:
        raise ValueError(
            f"the images, identities or splits are not those that {run.path} was trained on (listed in "
            f"{run.manifest.name}): put them back, or train a new run in another folder"
        )
