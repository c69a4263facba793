"""`qmargin demo --out DIR`: three losses, three seeds, one recipe, real faces."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from qmargin.cli._resamples import check_resamples
from qmargin.cli._run_people import evaluate
from qmargin.cli.compare import build, show
from qmargin.heads.config import HeadConfig, Kind
from qmargin.recipes import find_recipe
from qmargin.training import RunFolder, train

LOSSES = ("qmargin", "arcface", "cosface")
BASELINE = "arcface"
HONEST = (
    "40 people are an illustration: 30 to train on, 10 others to verify. It shows the whole way from images to a DET "
    "curve, not which loss is better on millions of faces."
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train Q-Margin, ArcFace and CosFace under one recipe on the AT&T/ORL faces and compare them."""

    out: Path = Path("runs/demo")
    """Folder of the runs and of report.html."""
    seeds: int = 3
    """Training runs of each loss, with seeds 0, 1, ..."""
    resamples: int = 1000
    """Bootstrap draws over subjects."""
    head: Kind = "auto"
    """How prototypes are held: dense, streaming, or auto (dense below 10,000 identities); the figures are the same."""


def run(words: Sequence[str]) -> None:
    """The whole job on 40 real people in minutes: train three losses, verify strangers, write a report."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin demo")
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {arguments.seeds}")
    check_resamples(arguments.resamples)
    began = time.perf_counter()
    recipe, head = find_recipe("faces-orl"), HeadConfig(kind=arguments.head)
    folders: list[RunFolder] = []
    for seed in range(arguments.seeds):
        for loss in LOSSES:
            config = replace(recipe.with_loss(loss), seed=seed, head=head)
            folder = train(config, arguments.out / f"{loss}-{seed}", resume=True, title=f"{loss}, seed {seed}")
            evaluate(folder, "test", arguments.resamples)
            folders.append(folder)
    comparison = build(
        [folder.path for folder in folders],
        BASELINE,
        split="test",
        resamples=arguments.resamples,
        command=f"qmargin demo {shlex.join(words)}".strip(),
        title="Q-Margin, ArcFace and CosFace on the ORL faces",
        notes=(HONEST,),
    )
    show(comparison, arguments.out / "report.html")
    Console().print(f"[dim]{len(folders)} runs in {time.perf_counter() - began:.0f} s[/]")
