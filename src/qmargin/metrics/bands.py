"""Bands of the DET and ROC curve: at each FAR of a grid the FRR, and its interval over resampled subjects.

Conventions:
    FRR at FAR x is 1 - TAR@FAR=x, read at the lowest threshold whose FAR is at most x (`tar.py`, "conservative"): a
    resample's threshold is its own, as a user would set it on other people.
    Bands are POINTWISE: at each FAR the interval holds with the given confidence, the whole curve at once does less
    often. With several runs of one system FRR is averaged over the runs at equal FAR.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._intervals import Method, check_method, interval
from qmargin.metrics._resampling import Plan, Progress, Statistic, evaluate
from qmargin.metrics._subjects import Strata
from qmargin.metrics._validate import Floats, check_labels
from qmargin.metrics.bootstrap import Interval, intervals_of, reading
from qmargin.metrics.det import DetCurve

PER_DECADE = 20  # points of the grid that is taken where none is given


@dataclass(frozen=True, eq=False)
class DetBand:
    """FRR along a grid of FARs, with pointwise intervals over subjects; `tar` and its ends are 1 minus them."""

    far: Floats  # (points,) rising, in [1 / impostors, 1]
    frr: Floats  # (points,) of the trials as they are
    low: Floats  # (points,) lower end of the interval of FRR
    high: Floats
    confidence: float  # at each point, e.g. 0.95
    resamples: int
    method: Method

    @property
    def tar(self) -> Floats:
        """TAR (points,)."""
        return 1.0 - self.frr

    @property
    def tar_low(self) -> Floats:
        """Lower end of the interval of TAR (points,)."""
        return 1.0 - self.high

    @property
    def tar_high(self) -> Floats:
        """Upper end of the interval of TAR (points,)."""
        return 1.0 - self.low

    def plain(self) -> dict[str, Any]:
        """As numbers and lists, for JSON; `from_plain` reads it."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "DetBand":
        """What `plain` made."""
        far, frr, low, high = (np.asarray(values[name], dtype=np.float64) for name in ("far", "frr", "low", "high"))
        return cls(far, frr, low, high, values["confidence"], values["resamples"], values["method"])


def det_band(
    scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    fars: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> DetBand:
    """Pointwise band of FRR (and TAR) along a grid of FARs, from resampled subjects.

    Args:
        scores: (trials,), or (runs, trials) for several seeds of one system on the same trials.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor.
        subjects: (trials, 2) integers, the subject on each side; equal for a genuine trial, different for an impostor.
        fars: (points,) rising, in [1 / impostors, 1]; by default 20 a decade, `far_grid`.
        resamples: number of draws, at least 2 / (1 - confidence).
        confidence: in (0, 1), at each point.
        seed: of the draws; equal seeds draw equal subjects here and in `subject_bootstrap`.
        method: "wilson" or "percentile".
        strata: as in `subject_bootstrap`.
        progress: called with the number of resamples just done.

    Returns:
        The band.

    Raises:
        ValueError: as `subject_bootstrap`; `fars` that do not rise or lie outside [1 / impostors, 1].

    Example:
        >>> subjects = np.array([(i, j) for i in range(8) for j in range(i, 8)])
        >>> labels = subjects[:, 0] == subjects[:, 1]
        >>> scores = np.random.default_rng(0).normal(size=36) + labels
        >>> band = det_band(scores, labels, subjects, [0.1, 0.5], resamples=100)
        >>> band.frr, bool((band.low <= band.frr).all() and (band.frr <= band.high).all())
        (array([0.5, 0. ]), True)

    Reference: as `subject_bootstrap`.

    See also `subject_bootstrap`, for single figures; `figures_and_band`, both in one pass.
    """
    _, band = figures_and_band(
        scores,
        labels,
        subjects,
        {},
        fars,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        method=method,
        strata=strata,
        progress=progress,
    )
    return band


def figures_and_band(
    scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistics: Mapping[str, Statistic],
    fars: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Interval], DetBand]:
    """What `subject_bootstrap` and `det_band` return, from one pass over the resamples.

    Arguments and errors are theirs.

    Example:
        >>> from qmargin.metrics.eer import eer_of
        >>> subjects = np.array([(i, j) for i in range(8) for j in range(i, 8)])
        >>> labels = subjects[:, 0] == subjects[:, 1]
        >>> scores = np.random.default_rng(0).normal(size=36) + labels
        >>> figures, band = figures_and_band(scores, labels, subjects, {"EER": eer_of}, [0.1, 0.5])
        >>> list(figures), band.far
        (['EER'], array([0.1, 0.5]))
    """
    check_method(method)
    plan = Plan(resamples=resamples, confidence=confidence, seed=seed, strata=strata, progress=progress)
    impostors = int(np.count_nonzero(~check_labels(labels)))
    grid = far_grid(impostors) if fars is None else _check_fars(fars, impostors)
    figures = reading(statistics)

    def read(det: DetCurve) -> Floats:
        return np.concatenate([figures(det), frr_at(det, grid)])

    found = evaluate({"scores": scores}, labels, subjects, read, plan)
    intervals = intervals_of(found, list(statistics), method, plan) if statistics else {}
    columns = slice(len(statistics), None)
    estimates, values = found.estimates[0, columns], found.values[0, columns]
    low, high = interval(method, estimates, values, found.of_pairs[0, columns], found.subjects, confidence)
    return intervals, DetBand(grid, estimates, low, high, confidence, resamples, method)


def far_grid(impostors: int, per_decade: int = PER_DECADE) -> Floats:
    """FARs (points,) rising from 1 / impostors to 1, evenly on a logarithmic scale, `per_decade` or more a decade.

    Example:
        >>> far_grid(100, per_decade=2).round(4)
        array([0.01  , 0.0316, 0.1   , 0.3162, 1.    ])
    """
    points = 1 + int(np.ceil(np.log10(impostors) * per_decade - 1e-9))
    return np.geomspace(1.0 / impostors, 1.0, points, dtype=np.float64) if impostors > 1 else np.ones(1)


def frr_at(det: DetCurve, fars: Floats) -> Floats:
    """FRR (points,) at the lowest threshold whose FAR is at most each of `fars` (points,)."""
    places = det.far.size - np.searchsorted(det.far[::-1], fars, side="right")  # FAR falls along the points
    found: Floats = det.frr[places]
    return found


def _check_fars(fars: ArrayLike, impostors: int) -> Floats:
    grid = np.asarray(fars, dtype=np.float64)
    lowest = 1.0 / impostors
    if grid.ndim != 1 or grid.size == 0 or not (np.diff(grid) > 0).all() or grid[0] < lowest or grid[-1] > 1.0:
        raise ValueError(
            f"fars must rise and lie in [1 / impostors, 1] = [{lowest:.2g}, 1], got shape {grid.shape} from "
            f"{grid.min() if grid.size else 'nothing'} to {grid.max() if grid.size else 'nothing'}; see `far_grid`"
        )
    return grid
