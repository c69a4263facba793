"""The training loop, to be read from top to bottom."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from qmargin.data import Batch, ShuffledBatches, write_manifest
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech import SpeechBatch
from qmargin.training.agreement import check_folder, check_restarts, check_settings
from qmargin.training.checkpoint import State
from qmargin.training.checkpoints import Checkpoints
from qmargin.training.codec import to_json
from qmargin.training.config import TrainConfig
from qmargin.training.folder import RunFolder
from qmargin.training.guard import naming_the_batch
from qmargin.training.initial import load_initial
from qmargin.training.log import TrainingLog
from qmargin.training.manifest import check_identities, check_manifest, read_samples
from qmargin.training.model_file import model_input
from qmargin.training.newest import newest_state
from qmargin.training.prototypes import Prototypes
from qmargin.training.ranks import SilentLog, World, processes
from qmargin.training.sampling import training_order
from qmargin.training.signals import Interrupted, stop_on_signals
from qmargin.training.speech_data import SpeechDataConfig
from qmargin.training.state import TrainingState
from qmargin.training.step import train_step
from qmargin.training.validation import Validation, Validator


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    title: str | None = None,
    validate: Validator | None = None,
) -> RunFolder:
    """Train one run into the folder `out`; a killed run continues with `resume` to the same weights.

    On the CPU, with the same number of threads, "the same" is bit for bit. Started by torchrun, the processes train one
    run together, that of one process up to rounding: docs/sharding.md.

    Args:
        config: the whole setting.
        out: folder of the run; created where missing.
        resume: continue the run in `out` from its newest checkpoint (from the start if it has none yet).
        title: text before the progress bar; the loss's name unless said.
        validate: computes the figures of `config.validation`: `qmargin.protocols.training_validator(config)`, or a
            `Validator` of one's own.

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
    config: TrainConfig, run: RunFolder, world: World, resume: bool, title: str, validate: Validator | None
) -> RunFolder:
    job = _Job.create(config, run, world, validate)
    with world.locked(run):
        world.first(lambda: run.open(config, resume=resume))
        check_folder(world, run)
        job.begin_or_resume()
        if job.done:
            world.merge(run)  # where the last attempt ended before it
        else:
            _carry_on(job, title)
    return run


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run with all that its steps need; creating it leaves no trace on the disk."""

    config: TrainConfig
    run: RunFolder
    world: World
    manifest: SampleTable
    samples: SampleTable
    """Those of `manifest` to train on."""
    order: ShuffledBatches
    """This process's share of each batch."""
    whole_order: ShuffledBatches
    """The whole batches, the same for any number of processes."""
    steps: int
    state: TrainingState
    validation: Validation

    @classmethod
    def create(cls, config: TrainConfig, run: RunFolder, world: World, validate: Validator | None) -> "_Job":
        """Settings and data checked, weights made."""
        if isinstance(config.data, SpeechDataConfig):
            config.data.augmentation.check()
        manifest = read_samples(config)
        check_settings(world, config, manifest)
        samples = manifest.subset("train")
        check_identities(samples, config)
        balance = config.data.class_balance
        share = world.share(config.batch_size, config.gradient_accumulation)
        order = training_order(samples.labels, share, config.seed, balance, world.rank, world.size)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        steps = _steps(config, order)
        config.averaging.check_steps(steps, order.steps_per_epoch)
        counts = torch.from_numpy(config.data.class_counts(samples))  # (classes,)
        return cls(
            config=config,
            run=run,
            world=world,
            manifest=manifest,
            samples=samples,
            order=order,
            whole_order=training_order(samples.labels, config.batch_size, config.seed, balance),
            steps=steps,
            validation=Validation(config, validate, run.best),
            state=_initialised(TrainingState.create(config, len(counts), counts, world), config, run, samples),
        )

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.state.step == self.steps or self.validation.watched.done

    def begin_or_resume(self) -> None:
        """Take the state of the newest checkpoint; where there is none, write down what is trained on."""
        with newest_state(self.run, self.state.head) as saved:
            if saved is None:
                self.world.first(lambda: write_manifest(self.manifest, self.run.manifest))
            else:
                self.whole_order.check_state(saved["sampler"])
                check_manifest(self.manifest, saved, self.run)
                self.state.load_state_dict(saved)
                self.validation.load_state_dict(saved.get("validation", {}))
        self.world.first(lambda: self.run.keep(self.config))  # only now is it known that moved data is the same

    def to_save(self) -> State:
        """What a checkpoint holds."""
        return {
            **self.state.state_dict(),
            "validation": self.validation.state_dict(),
            "sampler": self.whole_order.state_dict(self.state.step),
            "manifest": self.manifest.digest,
            "steps": self.steps,
            "input": to_json(model_input(self.config)),
        }


def _carry_on(job: _Job, title: str) -> None:
    """All steps that are left."""
    config, state, world = job.config, job.state, job.world
    state.backbone.train()
    batches = config.data.batches(job.samples, job.order)
    log = world.log(job.run, start=state.step, steps=job.steps, every=config.log_every, title=title)
    with (
        log,
        stop_on_signals() as stopping,
        closing(Checkpoints(job.run, world, state.head, background=config.checkpoint_in_background)) as checkpoints,
        closing(batches.iterate(state.step, job.steps)) as stream,
    ):
        for batch in stream:
            _step(job, batch, log)
            validated = job.validation.after(state, job.steps, log)
            enough, stop = world.any(validated, stopping(), refusal=checkpoints.refusal())
            last = state.step == job.steps or enough or stop
            if last or state.step % config.checkpoint_every == 0:
                checkpoints.save(job.to_save())
            if last:
                checkpoints.wait()
                world.merge(job.run)
                if stop and not enough and state.step < job.steps:
                    raise Interrupted(f"stopped after step {state.step} of {job.steps}; continue with --resume")
                break


def _step(job: _Job, batch: Batch | SpeechBatch, log: TrainingLog | SilentLog) -> None:
    """One step, and its line for the log."""
    state, steps_per_epoch = job.state, job.order.steps_per_epoch
    job.world.seed_dropout(job.config.seed, state.step)
    with naming_the_batch(state.step, [job.samples.path(index) for index in batch.indices], job.run.path):
        stats, numbers, settings = train_step(state, batch, job.config, job.steps, steps_per_epoch)
    settings["epoch"] = state.step / steps_per_epoch
    log.add(state.step, len(batch.labels) * job.world.size, stats, numbers, settings)


def _steps(config: TrainConfig, order: ShuffledBatches) -> int:
    steps = config.epochs * order.steps_per_epoch
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    return steps


def _initialised(state: TrainingState, config: TrainConfig, run: RunFolder, samples: SampleTable) -> TrainingState:
    """The state with first weights that are not from chance, where asked for and the run is new."""
    if config.init_from is not None and not run.has_checkpoint():
        prototypes = None
        if config.init_head:
            speeds = config.data.augmentation.blocks if isinstance(config.data, SpeechDataConfig) else None
            prototypes = Prototypes(state.head, frozenset(name for _, name, _ in samples.rows()), speeds)
        load_initial(config.init_from, state.backbone, model_input(config), prototypes)
    return state
