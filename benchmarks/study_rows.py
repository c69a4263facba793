"""The rows of a study's finished runs: a CSV file, and what a row is made of."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qmargin._files import write_text
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import FARS, tar_name
from qmargin.scoring import Embeddings
from qmargin.scoring.directions import unit_vectors
from qmargin.training import RunFolder
from qmargin.training.log import read_log

KEY = ("phase", "loss", "alpha", "scale", "margin", "learning rate", "seed", "epochs")
FIGURES = ("EER", *(tar_name(far) for far in FARS))
SPREAD = ("common direction", "effective dimensions")
SIZES = ("split", "subjects", "genuine", "impostor")
VALUE = "loss value"  # the log calls it "loss", which is the name of the loss here
LOGGED = (
    "support_size",
    "p_target",
    "zero_loss",
    "target_cosine",
    "accuracy",
    "gradient_norm",
    "prototypes_taught",
    "prototypes_effective",
)
DONE = ("precision", "minutes", "machine", "date")  # how and when
Row = dict[str, str]


def figures(trials: Trials) -> Row:
    """Error rates of scored trials and what they rest on, as cells of a row."""
    det = det_curve(trials.scores, trials.labels)
    row = {"subjects": str(len(np.unique(trials.subjects))), "genuine": str(int(det.genuine))}
    row |= {"impostor": str(int(det.impostor)), "EER": f"{eer_of(det):.5f}"}
    return row | {tar_name(far): f"{tar_at_far_of(det, far).tar:.5f}" for far in FARS if far * det.impostor >= 1.0}


def spread(embeddings: Embeddings) -> Row:
    """How far embeddings spread out, as cells of a row: why strangers look alike where training went wrong.

    "common direction": the norm of the mean of the unit embeddings, in [0, 1]. "effective dimensions": (sum l)^2 /
    sum l^2 of the eigenvalues l of their covariance, in [1, dim].
    """
    unit = unit_vectors(embeddings.vectors).astype(np.float64)  # (samples, dim)
    values = np.linalg.eigvalsh(np.cov(unit.T))  # (dim,)
    sizes = (np.linalg.norm(unit.mean(axis=0)), values.sum() ** 2 / np.square(values).sum())
    return {name: f"{size:.4f}" for name, size in zip(SPREAD, sizes, strict=True)}


def last_logged(run: RunFolder) -> Row:
    """What the last line of a log says, as cells of a row; logs of before have no prototypes."""
    last = read_log(run.log)[-1]
    return {VALUE: f"{last['loss']:.5g}", **{name: f"{last[name]:.5g}" for name in LOGGED if name in last}}


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_phase(rows: Sequence[Row], phase: str) -> list[Row]:
    """The rows of one phase."""
    return [row for row in rows if row["phase"] == phase]


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows, atomically; what a row does not have is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
