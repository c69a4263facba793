"""`qmargin calibrate SCORES --out FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from qmargin.calibration import calibrate
from qmargin.cli._quality import Floats, quality_of, read_durations
from qmargin.metrics import cllr, min_cllr
from qmargin.protocols.score_files import ScoreLayout, read_scores
from qmargin.scoring.vector_files import read_vectors


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Learn a map of scores to log-likelihood ratios on labelled trials of people who are not tested.

    Weighted logistic regression (as BOSARIS), optionally with quality measures. Apply the result with
    qmargin score ... --calibration FILE. The scores must be made exactly as those it will be applied to.
    """

    scores: Annotated[Path, tyro.conf.Positional]
    """Score file with labels: `enrol test score target|nontarget` or `enrol test 1|0 score`."""
    out: Path
    """JSON to write."""
    layout: ScoreLayout | None = None
    """Layout of the score file; read off its labels unless given."""
    prior: float = 0.01
    """Prior of a genuine trial at which the ratios should be best."""
    durations: Path | None = None
    """`utt seconds` lines: adds the log durations of the shorter and the longer side."""
    norms: Path | None = None
    """Raw embeddings (.npz): adds the log norms of the smaller and the larger side."""


def run(words: Sequence[str]) -> None:
    """Learn log-likelihood ratios from labelled scores, with durations and norms where given; JSON."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin calibrate")
    scored = read_scores(arguments.scores, arguments.layout)
    utterances, sides = np.unique(np.char.decode([*scored.first, *scored.second], "utf-8"), return_inverse=True)
    first, second = np.split(sides, 2)
    known: dict[str, Floats] = {}
    if arguments.durations is not None:
        known["duration"] = read_durations(arguments.durations, utterances)
    if arguments.norms is not None:
        vectors = read_vectors(arguments.norms)
        known["norm"] = np.linalg.norm(vectors.vectors[vectors.locate(utterances, str(arguments.norms))], axis=1)
    columns = {"score": scored.scores, **quality_of(known, first, second)}
    found = calibrate(columns, scored.labels, prior=arguments.prior, source=str(arguments.scores))
    found.save(arguments.out)
    llr = found(columns)
    console = Console(soft_wrap=True, highlight=False)
    terms = " ".join(f"{weight:+.4g} * {name}" for name, weight in zip(found.columns, found.weights, strict=True))
    console.print(f"llr = {found.offset:.4g} {terms}", markup=False)
    console.print(
        f"Cllr on these very trials: {cllr(llr, scored.labels):.4f}, least {min_cllr(llr, scored.labels):.4f}"
    )
    console.print(f"saved: {arguments.out}", markup=False)
