"""`qmargin verify A B --run RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin.calibration import load_thresholds
from qmargin.cli._weights import WeightsOption
from qmargin.scoring import embed_files, pair_cosines
from qmargin.training import RunFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare two images or recordings with a run's model: score, threshold, decision, and the FAR it stands for."""

    first: Annotated[Path, tyro.conf.Positional]
    """An image, cropped and aligned as the training images are; or a recording, where the run was trained on speech."""
    second: Annotated[Path, tyro.conf.Positional]
    """Another one."""
    run: Path
    """Folder of a run with thresholds (qmargin threshold RUN)."""
    far: float | None = None
    """FAR of the decision, one of those learned; the lowest of them unless given."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""
    weights: WeightsOption = "newest"


def run(words: Sequence[str]) -> None:
    """Say whether two images or recordings are of one person, at a threshold that was learned for a wanted FAR."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin verify")
    folder = RunFolder(arguments.run)
    thresholds = load_thresholds(folder.thresholds)
    point = thresholds.points[0] if arguments.far is None else thresholds.at(arguments.far)
    for image in (arguments.first, arguments.second):
        if not image.is_file():
            raise ValueError(f"no file at {image}")
    if arguments.first.resolve() == arguments.second.resolve():
        raise ValueError(f"{arguments.first} and {arguments.second} are one file; give two")
    embeddings = embed_files(folder, [arguments.first, arguments.second], arguments.device, weights=arguments.weights)
    if embeddings.step != thresholds.step:
        raise ValueError(
            f"the thresholds of {folder.path} are of training step {thresholds.step}, its {arguments.weights} weights "
            f"of {embeddings.step}: run qmargin threshold {folder.path} --weights {arguments.weights}, or verify "
            "with the weights that they are of (--weights)"
        )
    score = float(pair_cosines(embeddings.vectors)[0])
    decision = "same person" if score >= point.threshold else "different people"
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"score {score:.4f}, threshold {point.threshold:.4f}: [bold]{decision}[/]")
    people = f"{thresholds.subjects} people of the {thresholds.split} split"
    console.print(f"{point.describe()}, {people}", markup=False)
