"""`qmargin threshold RUN --far 1e-2 1e-3`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin.calibration import Thresholds, load_thresholds, thresholds_for
from qmargin.cli._weights import WeightsOption
from qmargin.cli.evaluate import Split
from qmargin.protocols import all_pairs
from qmargin.scoring import embed_run
from qmargin.training import RunFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Find the threshold that keeps a wanted FAR on a run's validation people, and save it beside the model.

    Every pair of their images is a trial. A FAR below 1 / impostor trials is refused. Thresholds of the same model for
    other FARs stay. Used by qmargin verify.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    far: tuple[float, ...] = (1e-2, 1e-3)
    """Wanted shares of impostors accepted."""
    split: Split = "validation"
    """Which people; test people who set a threshold cannot judge it afterwards."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""
    weights: WeightsOption = "newest"


def run(words: Sequence[str]) -> None:
    """Learn thresholds for wanted FARs on a run's validation people; qmargin verify uses them."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin threshold")
    folder = RunFolder(arguments.run)
    trials = all_pairs(embed_run(folder, arguments.split, arguments.device, weights=arguments.weights))
    fars = {*arguments.far, *_kept(folder, trials.step, arguments.split)}
    found = thresholds_for(
        trials.scores, trials.labels, trials.subjects, sorted(fars), step=trials.step, split=arguments.split
    )
    found.save(folder.thresholds)
    show(found)
    Console().print(f"saved: {folder.thresholds}", soft_wrap=True, markup=False)


def _kept(folder: RunFolder, step: int, split: str) -> list[float]:
    """FARs learned before for the same weights on the same people."""
    if not folder.thresholds.exists():
        return []
    before = load_thresholds(folder.thresholds)
    same = (before.step, before.split) == (step, split)
    return [point.far_wanted for point in before.points] if same else []


def show(found: Thresholds) -> None:
    """Print each threshold with what it rests on."""
    console = Console(soft_wrap=True, highlight=False)
    for point in found.points:
        console.print(f"threshold {point.threshold:.4f}: {point.describe()}; TAR {point.tar:.4f}", markup=False)
    console.print(f"learned on {found.subjects} people of the {found.split} split, step {found.step}", markup=False)
