"""Scores to log-likelihood ratios by prior-weighted logistic regression, with quality measures where there are some.

Conventions:
    llr = offset + sum over k of weights[k] x[k], natural logarithm; x are columns, the first of them the score. The
    weights minimise, with p the prior the calibration is made for and a = log(p / (1 - p)),
    C = p mean over genuine of log(1 + exp(-llr - a)) + (1 - p) mean over impostors of log(1 + exp(llr + a)),
    so the shares of genuine and impostor trials in the list do not matter. No penalty. The minimum is unique unless a
    straight cut separates the classes, or a column does not vary: both are refused.
    Learn on trials of people who are not tested; the llr of the tested trials would otherwise be too sure.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin._files import write_text

Floats = NDArray[np.float64]
STEPS = 100  # of Newton's method; ten are usual
TOLERANCE = 1e-12  # on the squared Newton decrement, in units of C


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """An affine map of columns to log-likelihood ratios, and what it was learned on."""

    columns: tuple[str, ...]  # names, the score first
    weights: tuple[float, ...]  # one a column
    offset: float
    prior: float  # p of the conventions
    genuine: int  # trials it was learned on
    impostor: int
    source: str  # what they were, in words

    def __call__(self, columns: Mapping[str, ArrayLike]) -> Floats:
        """Log-likelihood ratios (trials,) of new trials, from the same columns (trials,) by name.

        Raises:
            ValueError: a column is missing or one too many is there.
        """
        if set(columns) != set(self.columns):
            raise ValueError(
                f"this calibration maps the columns {', '.join(self.columns)}, got {', '.join(columns)}; give the same"
            )
        llr = np.full(np.shape(columns[self.columns[0]]), self.offset)
        for name, weight in zip(self.columns, self.weights, strict=True):
            llr += weight * np.asarray(columns[name], dtype=np.float64)
        return llr

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically; `load_calibration` reads it."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read what `Calibration.save` wrote; a ValueError names a file that is missing or something else."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        loaded = Calibration(**fields | {name: tuple(fields[name]) for name in ("columns", "weights")})
        whole = len(loaded.columns) == len(loaded.weights)
        whole &= all(math.isfinite(number) for number in (*loaded.weights, loaded.offset, loaded.prior))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no calibration ({error}): write one with qmargin calibrate") from error
    if not whole:
        raise ValueError(f"{path} holds no calibration: not one finite weight for each column")
    return loaded


def calibrate(columns: Mapping[str, ArrayLike], labels: ArrayLike, *, prior: float = 0.01, source: str) -> Calibration:
    """Learn a calibration from labelled trials; see the module's conventions.

    Args:
        columns: (trials,) each by name, the score first; see `quality_columns` for others.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.
        prior: of a genuine trial, in (0, 1): where the llr will be used; 0.01 is that of minDCF(0.01).
        source: what the trials are, kept with the result.

    Returns:
        The calibration: call it with columns of new trials.

    Raises:
        ValueError: a column that is not finite or does not vary, columns that repeat each other, labels of one class, a
            prior out of range, or scores that separate the classes (no finite llr follows from them).

    Example:
        >>> scores, labels = [0.1, 0.2, 0.3, 0.5, 0.4, 0.6, 0.8], [0, 0, 0, 0, 1, 1, 1]
        >>> calibration = calibrate({"score": scores}, labels, prior=0.5, source="an example")
        >>> calibration({"score": [0.2, 0.45, 0.7]}).round(2)
        array([-2.78,  0.25,  3.28])

    Reference: Brümmer and de Villiers, "The BOSARIS toolkit", 2013, arXiv:1304.2865 (its objective and weighting).

    See also `qmargin.metrics.cllr` and `qmargin.metrics.act_dcf`, which say how good the result is.
    """
    genuine = _check_labels(labels)
    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior must be in (0, 1), got {prior}; usual ones are 0.01 and 0.05")
    names = tuple(columns)
    scaled, centres, spreads = _standardise(columns, genuine)
    weights = _newton(scaled, genuine, prior)
    slopes = weights[1:] / spreads
    return Calibration(
        columns=names,
        weights=tuple(slopes.tolist()),
        offset=float(weights[0] - slopes @ centres),
        prior=prior,
        genuine=int(np.count_nonzero(genuine)),
        impostor=int(np.count_nonzero(~genuine)),
        source=source,
    )


def _check_labels(labels: ArrayLike) -> NDArray[np.bool_]:
    given = np.asarray(labels)
    genuine: NDArray[np.bool_] = given == 1
    if given.ndim != 1 or not (genuine | (given == 0)).all():
        raise ValueError("labels must be one 0 (impostor) or 1 (genuine) a trial")
    if genuine.all() or not genuine.any():
        raise ValueError(f"calibration needs genuine and impostor trials, got {given.size} of one class")
    return genuine


def _standardise(columns: Mapping[str, ArrayLike], genuine: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Columns with mean 0 and deviation 1 behind a column of ones (trials, 1 + columns), the means and deviations."""
    table = [np.asarray(column, dtype=np.float64) for column in columns.values()]
    for name, column in zip(columns, table, strict=True):
        if column.shape != genuine.shape:
            raise ValueError(f"column {name!r} must have shape {genuine.shape}, one value a trial, got {column.shape}")
        if not np.isfinite(column).all():
            raise ValueError(f"column {name!r} must be finite, trial {int((~np.isfinite(column)).argmax())} is not")
        if column.min() == column.max():
            raise ValueError(f"column {name!r} is {column[0]} in every trial: it says nothing, leave it out")
    matrix = np.stack(table, axis=1)
    centres, spreads = matrix.mean(axis=0), matrix.std(axis=0)
    scaled = np.concatenate([np.ones((len(matrix), 1)), (matrix - centres) / spreads], axis=1)
    if np.linalg.matrix_rank(scaled.T @ scaled / len(scaled), tol=1e-12, hermitian=True) < scaled.shape[1]:
        raise ValueError(f"the columns {', '.join(columns)} repeat each other (one is a sum of others): leave one out")
    return scaled, centres, spreads


def _newton(columns: Floats, genuine: NDArray[np.bool_], prior: float) -> Floats:
    """Weights (columns,) of the least C, by Newton's method with step halving."""
    share = np.where(genuine, prior / np.count_nonzero(genuine), (1.0 - prior) / np.count_nonzero(~genuine))
    sign, shift = np.where(genuine, -1.0, 1.0), math.log(prior) - math.log1p(-prior)

    def cost(weights: Floats) -> float:
        return float(share @ np.logaddexp(0.0, sign * (columns @ weights + shift)))

    weights: Floats = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        llr = columns @ weights
        if llr[genuine].min() >= llr[~genuine].max() and llr.min() < llr.max():
            raise ValueError(
                "the scores separate genuine from impostor trials, so no finite log-likelihood ratio follows from "
                "them: calibrate on more or harder trials"
            )
        wrong = _logistic(sign * (llr + shift))  # (trials,) posterior of the other class
        slope = columns.T @ (share * sign * wrong)
        curvature = (columns * (share * wrong * (1.0 - wrong))[:, None]).T @ columns
        step = np.linalg.solve(curvature, slope)
        decrement = float(slope @ step)
        if decrement < TOLERANCE:
            return weights - step
        before, length = cost(weights), 1.0
        while cost(weights - length * step) > before - 0.25 * length * decrement and length > 1e-10:
            length /= 2.0
        weights = weights - length * step
    raise ValueError(f"calibration did not settle in {STEPS} steps: do the scores almost separate the classes?")


def _logistic(values: Floats) -> Floats:
    """1 / (1 + exp(-values)) without overflow."""
    shares: Floats = np.exp(-np.logaddexp(0.0, -values))
    return shares
