"""Two ranks of which one fails, and what is left: `python rank_faults.py FOLDER` writes FOLDER/outcomes.json.

Each fault happens in a training that is started as users start it but for torchrun, which would end the other rank:
here that must end by itself. Then the run is resumed. `torchrun --max-restarts 1 rank_faults.py RUN` kills a rank once.
"""

import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed import checkpoint as dcp

from qmargin.backbones import IResNet
from qmargin.cli import main
from qmargin.heads import collectives
from qmargin.recipes import find_recipe
from qmargin.training import loop, ranks, sharded_checkpoint, watch
from qmargin.training.codec import to_json

SETTINGS = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --backbone.dropout 0.2 --batch-size 20 --max-steps 10 --log-every 1 --checkpoint-every 4
--optimizer.learning-rate 0.01 --threads 1
"""
STEPS, SAVED, FAILS = 10, 4, 6  # a checkpoint after step 4, the next would come after 8
RANKS = 2
WRITER = vars(dcp)["HuggingFaceStorageWriter"]  # torch has it, its stubs do not say so
BACKGROUND = ("--checkpoint-in-background",)
SILENCE = 5.0  # seconds, where a rank falls silent


def killed(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(module: Any, name: str, then: Callable[[], None]) -> None:
    """Do it and then `then`."""
    original = getattr(module, name)

    def both(*arguments: Any, **named: Any) -> Any:
        done = original(*arguments, **named)
        then()
        return done

    setattr(module, name, both)


def disk_full() -> None:
    """Of this process: no file grows beyond 100 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


def refuse() -> None:
    raise ValueError("image 17 cannot be read")


def silent(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def other_data() -> None:
    read = vars(loop)["read_samples"]
    vars(loop)["read_samples"] = lambda config: read(config).hold_out(1, seed=0)


def slow_disk() -> None:
    """A checkpoint of this rank takes longer than the rank lives."""
    after(WRITER, "write_data", lambda: time.sleep(60.0))


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one rank."""

    rank: int = 1
    at_start: Callable[[], None] = lambda: None
    later: Callable[[], None] = lambda: None  # before step FAILS
    words: tuple[str, ...] = ()  # added to this rank's command
    both: tuple[str, ...] = ()  # added to the commands of all
    resumes: bool = False  # the run is then gone on with, to its end


FAULTS = {
    "none": Fault(),
    "killed in forward": Fault(later=lambda: setattr(IResNet, "forward", killed), resumes=True),
    "killed in all_gather": Fault(later=lambda: setattr(collectives, "_all_gather", killed)),
    "killed in save": Fault(later=lambda: after(WRITER, "write_data", killed), resumes=True),
    "killed in publishing": Fault(rank=0, later=lambda: setattr(sharded_checkpoint, "publish_folder", killed)),
    "killed after publishing": Fault(
        rank=0, later=lambda: after(sharded_checkpoint, "publish_folder", killed), resumes=True
    ),
    "killed in merging": Fault(rank=0, at_start=lambda: setattr(ranks, "reshard", killed), resumes=True),
    "disk full": Fault(later=disk_full),
    "killed in the background": Fault(
        later=lambda: after(WRITER, "write_data", killed),
        both=BACKGROUND,
        resumes=True,
    ),
    "killed while the disk is slow": Fault(
        at_start=slow_disk, later=lambda: setattr(IResNet, "forward", killed), both=BACKGROUND, resumes=True
    ),
    "disk full in the background": Fault(later=disk_full, both=BACKGROUND),
    "refuses": Fault(later=refuse),
    "silent": Fault(later=lambda: setattr(IResNet, "forward", silent)),
    "other settings": Fault(words=("--optimizer.learning-rate", "0.02")),
    "other data": Fault(at_start=other_data),
    "other folder": Fault(words=("--out", "elsewhere")),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_rank(rank: int, port: int, out: Path, fault: Fault) -> None:
    """One process: a rank of the training."""
    with out.with_suffix(f".{rank}").open("a") as errors, Path(os.devnull).open("w") as nowhere:
        os.dup2(errors.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    os.chdir(out.parent)
    address = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in address.items()}
    watch.PAUSE = 0.1
    if fault is FAULTS["silent"]:
        watch.SILENCE = SILENCE
    main([*command(out, fault if rank == fault.rank else FAULTS["none"]), *fault.both])


def command(out: Path, fault: Fault) -> list[str]:
    """What a rank's user typed, with the fault made ready."""
    fault.at_start()
    step = vars(loop)["train_step"]

    def until_it_fails(state: Any, *arguments: Any) -> Any:
        if state.step == FAILS:
            fault.later()
        return step(state, *arguments)

    vars(loop)["train_step"] = until_it_fails
    return ["train", "faces-orl", "--out", str(out), *SETTINGS.split(), "--resume", *fault.words]


def run_under_torchrun(out: Path) -> None:
    """A rank that torchrun has started; the last one is killed in torchrun's first attempt."""
    killed_now = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == str(RANKS - 1)
    main(command(out, FAULTS["killed in forward" if killed_now else "none"]))


def train(out: Path, fault: Fault) -> dict[str, Any]:
    """Exit codes and errors of both ranks, and how long the last one outlived the first."""
    context = multiprocessing.get_context("fork")  # before any work: torch is imported once, not once a rank
    port = free_port()
    processes = [context.Process(target=run_rank, args=(rank, port, out, fault)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    stopped = fault is FAULTS["silent"]
    try:
        while all(process.is_alive() for process in processes):
            time.sleep(0.02)
        began = time.monotonic()
        for rank, process in enumerate(processes):
            process.join(0.0 if stopped and rank == fault.rank else 60.0)
        took = time.monotonic() - began
    finally:
        for process in processes:
            process.kill()
            process.join()
    errors = [out.with_suffix(f".{rank}").read_text() for rank in range(RANKS)]
    return {"exits": [process.exitcode for process in processes], "errors": errors, "outlived": took}


def run(folder: Path) -> None:
    outcomes = {}
    to_json(find_recipe("faces-orl").with_loss("qmargin"))  # its converter is made once, not once a rank
    for name, fault in FAULTS.items():
        out = folder / name.replace(" ", "-")
        outcomes[name] = train(out, fault)
        outcomes[name]["newest"] = sorted(path.name for path in (out / "shards").glob("*"))
        if fault.resumes:
            outcomes[name]["resumed"] = train(out, FAULTS["none"])["exits"]
        (folder / "outcomes.json").write_text(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    (run_under_torchrun if "RANK" in os.environ else run)(Path(sys.argv[1]))
