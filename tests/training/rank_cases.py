"""Options of a training under two ranks, with DDP and FSDP, beside one process: `python rank_cases.py FOLDER`.

Each case trains the same recipe three times for a few steps, by one process and by two ranks either way, and compares
all that is in the checkpoints. Differences are measured by how far the weights have moved. FOLDER/rank0.json and
rank1.json say what failed.
"""

import copy
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qmargin.backbones import EcapaConfig, IResNetConfig, MobileFaceNetConfig, SpeakerResNetConfig
from qmargin.data import ImageFormat
from qmargin.protocols import training_validator
from qmargin.recipes import find_recipe
from qmargin.training import AveragingConfig, Interrupted, RunFolder, TrainConfig, ValidationConfig, loop, train, watch
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.codec import to_json
from qmargin.training.log import read_log
from qmargin.training.model_file import read_model
from qmargin.training.parallel import share_out, whole
from qmargin.training.ranks import processes
from qmargin.training.state import TrainingState

RANKS, STEPS = 2, 4
WAYS: tuple[Any, ...] = ("ddp", "fsdp")
FLOAT32, FLOAT16 = 2e-3, 0.1  # largest difference of weights, as a share of the way they have gone
ORL = find_recipe("faces-orl").with_loss("qmargin")
TINY = replace(
    ORL,
    data=replace(ORL.image_data, image=ImageFormat(height=28, width=23, channels=1, fit="resize")),
    backbone=IResNetConfig(
        blocks=(1, 1, 1, 1), width=4, embedding_dim=16, dropout=0.0, height=28, input_width=23, channels=1
    ),
    optimizer=replace(ORL.optimizer, learning_rate=1e-4, warmup=0.0),
    max_steps=STEPS,
    batch_size=20,
    log_every=1,
    checkpoint_every=1000,
    threads=1,
)


NETWORKS: tuple[Any, ...] = (
    IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=12, height=32, input_width=32, dropout=0.0),
    MobileFaceNetConfig(width=4, embedding_dim=12, height=32, input_width=32),
    EcapaConfig(channels=64, pooled=24, bottleneck=8, embedding_dim=12, bins=16),
    SpeakerResNetConfig(blocks=(1, 2, 1, 1), width=4, embedding_dim=12, bins=16),
)


def plain() -> nn.Module:
    """A network without batch norm: parts of a batch may be cut anywhere."""
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 23, 20), nn.Tanh(), nn.Linear(20, 16))


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


@contextmanager
def plain_network() -> Iterator[None]:
    with replaced(IResNetConfig, "build", lambda _config: plain()):
        yield


@contextmanager
def compiled_without_a_compiler() -> Iterator[None]:
    compile_ = torch.compile
    # torch's own, wherever a graph ends between two layers: at an exchange of ranks, and at a part that FSDP gathers
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf Tensor")
    with replaced(torch, "compile", lambda network: compile_(network, backend="aot_eager")):
        yield


def last_rank() -> bool:
    return os.environ.get("RANK", "1") == "1"  # of two; a single process is its own last


@contextmanager
def before_step(step: int, action: Callable[[TrainingState], Callable[[], None] | None]) -> Iterator[None]:
    """Do something before a step; what it returns is done after the step."""
    own_step = vars(loop)["train_step"]

    def wrapped(state: TrainingState, *arguments: Any) -> Any:
        undo = action(state) if state.step == step else None
        result = own_step(state, *arguments)
        if undo is not None:
            undo()
        return result

    with replaced(loop, "train_step", wrapped):
        yield


@contextmanager
def small_scale() -> Iterator[None]:
    """Of the loss in half precision, so that it overflows where a case wants it, and nowhere else."""

    def set_it(state: TrainingState) -> None:
        state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 256.0})

    with before_step(0, set_it):
        yield


@contextmanager
def overflow_in_the_head() -> Iterator[None]:
    """Half precision overflows in the prototypes of one rank alone."""

    def overflow(state: TrainingState) -> Callable[[], None] | None:
        if not last_rank():
            return None
        undo: Callable[[], None] = state.head.weight.register_hook(lambda gradient: gradient * torch.inf).remove
        return undo

    with small_scale(), before_step(2, overflow):
        yield


@contextmanager
def overflow_in_the_backbone() -> Iterator[None]:
    def overflow(state: TrainingState) -> Callable[[], None] | None:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            output.register_hook(lambda gradient: gradient * torch.inf)

        return state.backbone.register_forward_hook(hook).remove if last_rank() else None

    with small_scale(), before_step(2, overflow):
        yield


@contextmanager
def stopped_halfway() -> Iterator[None]:
    """SIGTERM, in one rank: all end after that step."""

    def stop(_state: TrainingState) -> Callable[[], None] | None:
        return (lambda: os.kill(os.getpid(), signal.SIGTERM)) if last_rank() else None

    with before_step(2, stop):
        yield


@dataclass(frozen=True)
class Case:
    """Options, and how near one process two ranks must come."""

    change: Callable[[TrainConfig], TrainConfig] = lambda config: config
    around: Callable[[], Any] = as_it_is
    tolerance: float = FLOAT32
    ways: tuple[str, ...] = WAYS


def averaged(**settings: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, averaging=AveragingConfig(**settings))


def validated(config: TrainConfig) -> TrainConfig:
    return replace(
        config,
        data=replace(config.image_data, validation_identities=5),
        validation=ValidationConfig(every=2, watch="identities.eer"),
        averaging=AveragingConfig(ema=0.3),
    )


def half(config: TrainConfig) -> TrainConfig:
    return replace(config, precision="float16")


def controlled(config: TrainConfig) -> TrainConfig:
    return replace(config, loss=find_recipe("faces-orl").losses["qmargin-support"])


def written_in_the_background(config: TrainConfig) -> TrainConfig:
    return replace(config, checkpoint_in_background=True, checkpoint_every=2)


CASES = {
    "plain": Case(),
    "clipped": Case(lambda config: replace(config, optimizer=replace(config.optimizer, clip_norm=0.05))),
    "accumulated": Case(lambda config: replace(config, gradient_accumulation=5), plain_network),
    "ema": Case(averaged(ema=0.3)),
    "mean-of-the-last": Case(averaged(last=2, every=2)),
    "validated": Case(validated),
    "compiled": Case(lambda config: replace(config, compile=True), compiled_without_a_compiler),
    "float16": Case(half, small_scale, FLOAT16),
    "float16-overflow-in-the-head": Case(half, overflow_in_the_head, FLOAT16),
    "float16-overflow-in-the-backbone": Case(half, overflow_in_the_backbone, FLOAT16),
    "support-control": Case(controlled, ways=("ddp",)),
    "in-the-background": Case(written_in_the_background, ways=("ddp",)),
}


@contextmanager
def in_world(rank: int, port: int) -> Iterator[None]:
    """As torchrun would have started this process."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    os.environ |= dict(zip(names, map(str, (rank, rank, RANKS, "127.0.0.1", port)), strict=True))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def run_case(case: Case, config: TrainConfig, out: Path, *, resume: bool = False) -> None:
    validate = training_validator(config) if config.validation.every is not None else None
    with case.around():
        train(config, out, validate=validate, resume=resume)


def flat(tree: Any) -> Tensor:
    """All floating point numbers of a state."""
    if isinstance(tree, Tensor):
        return tree.flatten().double() if tree.is_floating_point() else torch.empty(0, dtype=torch.float64)
    nodes = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    parts = [flat(node) for node in nodes]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)


def compare(case: Case, config: TrainConfig, one: RunFolder, other: RunFolder) -> None:
    truth, found = load_checkpoint(one.checkpoint), load_checkpoint(other.checkpoint)
    assert truth["step"] == found["step"]
    assert truth["scaler"] == found["scaler"]
    assert truth.get("averaged") == found.get("averaged")
    classes = truth["head"]["weight"].shape[0]
    with case.around():
        fresh = TrainingState.create(replace(config, compile=False), classes)
    starts = {"backbone": fresh.backbone.state_dict(), "head": fresh.head.state_dict()}
    starts["average"] = starts["backbone"]
    for part in ("backbone", "head", "average"):
        if part in truth:
            way = flat(truth[part]) - flat(starts[part])
            assert way.norm() > 0.0
            share = float((flat(found[part]) - flat(truth[part])).norm() / way.norm())
            assert share < case.tolerance, f"{part} differs by {share:.2g} of its way"
    for optimizer in ("backbone", "head"):
        slots, others = (flat(state["optimizers"][optimizer]["state"]) for state in (truth, found))
        assert float((slots - others).norm() / slots.norm()) < case.tolerance, f"momentum of {optimizer}"
    for table in ("log", "validation"):
        paths = getattr(one, table), getattr(other, table)
        if paths[0].exists():
            compare_tables(*paths, tolerance=case.tolerance)
    if one.best.exists():
        (said, best), (others_said, others_best) = (read_model(run.best) for run in (one, other))
        assert said == others_said
        torch.testing.assert_close(others_best.state_dict(), best.state_dict(), rtol=1e-3, atol=1e-5)


def compare_tables(one: Path, other: Path, tolerance: float) -> None:
    rows, others = read_log(one), read_log(other)
    assert len(rows) == len(others) > 0
    for row, another in zip(rows, others, strict=True):
        for name in row.keys() & {"step", "loss", "support_size", "scale", "gradient_norm", "identities.eer"}:
            a, b = row[name], another[name]
            assert a == b or abs(a - b) <= tolerance * max(abs(a), abs(b)), (name, a, b)


def backbones() -> None:
    """Every network, shared out: outputs of the whole one, and the mean of the ranks' gradients."""
    with processes("cpu") as world:
        assert world.group is not None
        for number, config in enumerate(NETWORKS):
            torch.manual_seed(number)
            plain = config.build()
            shared = copy.deepcopy(plain)
            share_out(shared, world.group)
            inputs = torch.randn(4, *config.input_shape) + world.rank
            if len(config.input_shape) == 1:
                inputs = torch.randn(4, 30, *config.input_shape) + world.rank  # (batch, frames, bins)
            outputs = [network(inputs) for network in (plain, shared)]
            torch.testing.assert_close(*outputs)
            for output in outputs:
                output.square().mean().backward()
            for parameter, part in zip(plain.parameters(), shared.parameters(), strict=True):
                if parameter.grad is None:  # a weight that is held fixed
                    assert part.grad is None
                    continue
                assert part.grad is not None
                assert part.to_local().numel() < parameter.numel()
                expected = world.group.total(parameter.grad) / RANKS
                torch.testing.assert_close(whole(part.grad), expected, rtol=1e-4, atol=1e-6)


@dataclass
class Worker:
    """One of the two processes; both do the same things in the same order."""

    rank: int
    ports: Iterator[int]
    folder: Path
    results: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, action: Callable[[], None], *, ranks: int = RANKS) -> None:
        """By both ranks, or by the first alone; what fails is written down."""
        if ranks == 1 and self.rank > 0:
            return
        self.results[name] = ""
        with in_world(self.rank, next(self.ports)) if ranks > 1 else as_it_is():
            try:
                action()
            except BaseException:  # noqa: BLE001 - the test prints it
                self.results[name] = traceback.format_exc()
        (self.folder / f"rank{self.rank}.json").write_text(json.dumps(self.results))

    def three_ways(self, name: str, case: Case, start: str | None = None) -> None:
        """Alone, with DDP, with FSDP; `start` is the case whose weights and prototypes it begins with."""
        config = case.change(TINY)

        def train_by(way: Any) -> None:
            own = config if start is None else replace(config, init_from=self.folder / start / way, init_head=True)
            run_case(case, replace(own, parallel=way if way in WAYS else "ddp"), self.folder / name / way)
            if way in WAYS and self.rank == 0:
                compare(case, config, *(RunFolder(self.folder / name / one) for one in ("alone", way)))

        self.attempt(f"{name}, alone", partial(train_by, "alone"), ranks=1)
        for way in case.ways:
            self.attempt(f"{name}, {way}", partial(train_by, way))

    def numbers_of_ranks(self) -> None:
        """A run that was stopped goes on by one process where it was of two, and by two where it was of one."""
        config = replace(TINY, parallel="fsdp", averaging=AveragingConfig(ema=0.3))

        def until_stopped(out: Path) -> None:
            with suppress(Interrupted):
                run_case(Case(around=stopped_halfway), config, out)
                raise AssertionError("it was not stopped")

        def go_on(out: Path) -> None:
            run_case(Case(), config, out, resume=True)
            if self.rank == 0:
                compare(Case(), config, RunFolder(self.folder / "ema" / "alone"), RunFolder(out))

        for first, then in ((RANKS, 1), (1, RANKS)):
            out = self.folder / f"stopped-of-{first}"
            self.attempt(f"stopped, of {first}", partial(until_stopped, out), ranks=first)
            self.attempt(f"resumed by {then}", partial(go_on, out), ranks=then)

    def run(self) -> None:
        torch.set_num_threads(1)
        watch.PAUSE = 0.05
        for name, case in CASES.items():
            self.three_ways(name, case)
        self.three_ways("fine-tuned", Case(), "ema")
        self.attempt("a killed run", self._as_killed_runs, ranks=1)
        self.three_ways("fine-tuned-from-shards", Case(), "killed")
        self.numbers_of_ranks()
        self.attempt("backbones, fsdp", backbones)

    def _as_killed_runs(self) -> None:
        """Copies of runs of two ranks without the file that is made of the shards at the end."""
        for way in WAYS:
            shutil.copytree(self.folder / "ema" / way, self.folder / "killed" / way)
            (self.folder / "killed" / way / "checkpoint.safetensors").unlink()
        shutil.copytree(self.folder / "ema" / "alone", self.folder / "killed" / "alone")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def work(rank: int, ports: list[int], folder: Path) -> None:
    Worker(rank, iter(ports), folder).run()


def main(folder: Path) -> None:
    to_json(TINY)  # its converter is made once, not once a rank
    # forked before any work: torch is imported once, not once a rank
    context = multiprocessing.get_context("fork")
    ports = [free_port() for _ in range(2 * len(CASES) + 9)]
    ranks = [context.Process(target=work, args=(rank, ports, folder)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in ranks))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
