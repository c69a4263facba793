"""What the ranks of a training must have alike, compared before the first step: versions, settings, data, folder."""

import os
from importlib.metadata import version

import torch

from qmargin.data.sample_table import SampleTable
from qmargin.training.codec import differing, flatten, from_json, to_json
from qmargin.training.config import TrainConfig
from qmargin.training.folder import RunFolder
from qmargin.training.newest import place_of_newest
from qmargin.training.ranks import World

OF_ONE_RANK = frozenset({"data.workers"})  # may differ between machines


def check_restarts(*, resume: bool) -> None:
    """Refuse a training that torchrun would start again in vain.

    Raises:
        ValueError: torchrun has restarts to give, and `resume` is off, or ranks would meet at torchrun's own store,
            where they read addresses of ranks that are dead (https://github.com/pytorch/pytorch/issues/135712).
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts == 0:
        return
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ValueError(
            f"torchrun --max-restarts {restarts} keeps what ranks tell each other, and those of the second "
            "attempt would call dead ones: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of "
            "torchrun, and give it --standalone or --rdzv-backend c10d"
        )
    if not resume:
        raise ValueError(
            f"torchrun --max-restarts {restarts} starts this command again after a failure, and it goes on from the "
            "last checkpoint only with --resume: add --resume (a folder without a run is begun as usual)"
        )


def check_settings(world: World, config: TrainConfig, manifest: SampleTable) -> None:
    """Refuse ranks that were started with other versions, settings or data.

    Raises:
        ValueError: on every rank; it names the first two ranks that differ, and in what.
    """
    _check_alike(
        world,
        f"qmargin {version('qmargin')}, torch {torch.__version__}",
        "run other versions",
        "install the same on all machines",
    )
    for rank, (text, first) in _others(world, to_json(config)):
        changed = differing(from_json(first, "rank 0's config"), from_json(text, f"rank {rank}'s config"), OF_ONE_RANK)
        if changed:
            own, others = flatten(from_json(first, "")), flatten(from_json(text, ""))
            shown = "; ".join(f"{name}: {own.get(name)} and {others.get(name)}" for name in changed)
            raise ValueError(
                f"ranks 0 and {rank} were started with other settings ({shown}): start all with the same recipe and "
                "the same flags"
            )
    _check_alike(
        world,
        f"{len(manifest):,} samples of {manifest.num_classes:,} identities, SHA-256 of the list {manifest.digest}",
        "read other data",
        "data.source must hold the same samples, identities and splits on all machines",
    )


def check_folder(world: World, run: RunFolder) -> None:
    """Refuse ranks that see another folder than rank 0, or would go on from another checkpoint.

    Raises:
        ValueError: on every rank.
    """
    advice = f"the folder of the run, {run.path}, must lie on a disk that all ranks see, under the same --out"
    for rank, (text, first) in _others(world, run.config.read_text("utf-8") if run.config.is_file() else ""):
        if text != first:
            raise ValueError(f"rank {rank} does not see the config.json that rank 0 does: {advice}")
    _check_alike(world, place_of_newest(run), "would go on from other checkpoints", advice)


def _check_alike(world: World, own: str, what: str, advice: str) -> None:
    for rank, (text, first) in _others(world, own):
        if text != first:
            raise ValueError(f"ranks 0 and {rank} {what} ({first}; {text}): {advice}")


def _others(world: World, own: str) -> list[tuple[int, tuple[str, str]]]:
    """Of every rank but the first: its number, its text, and that of rank 0."""
    first, *others = world.texts(own)
    return [(rank, (text, first)) for rank, text in enumerate(others, start=1)]
