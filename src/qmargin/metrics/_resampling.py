"""The loop of the bootstrap over subjects: figures of every resample, all systems and runs on the same draws."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._exact import Curves, RankedSystems
from qmargin.metrics._grid import GriddedSystems
from qmargin.metrics._subjects import Strata, Subjects
from qmargin.metrics._validate import Floats, Scores, check_labels, check_scores
from qmargin.metrics.det import DetCurve, det_curve

Statistic = Callable[[DetCurve], float]
Read = Callable[[DetCurve], Floats]  # a curve to its figures (figures,)
Progress = Callable[[int], object]  # told how many resamples more are done


class Draws(TypedDict, total=False):
    """The arguments of every function that resamples, to hand on."""

    resamples: int
    confidence: float
    seed: int
    strata: Strata | None
    progress: Progress | None


LONGEST_EXACT = 50_000  # trials; on longer lists resamples are read on the grid of `_grid.py`
PAIR_RESAMPLES = 200  # at most; they serve a variance, not a tail


@dataclass(frozen=True, eq=False)
class Resamples:
    """Figures of each system, averaged over its runs."""

    estimates: Floats  # (systems, figures) on the trials as they are
    values: Floats  # (systems, figures, resamples) with subjects drawn
    of_pairs: Floats  # (systems, figures, pair resamples) with pairs of subjects drawn
    subjects: int


def resample_steps(resamples: int) -> int:
    """What `progress` is told in all, over one bootstrap of so many resamples."""
    return resamples + min(resamples, PAIR_RESAMPLES)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a bootstrap draws."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    strata: Strata | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse what no interval can be made of."""
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence must be a share in (0, 1), got {self.confidence}; 95 % is 0.95")
        needed = 2.0 / (1.0 - self.confidence)
        if self.resamples < needed * (1.0 - 1e-9):
            raise ValueError(
                f"a confidence of {self.confidence} needs at least {needed:.0f} resamples, so that each tail holds "
                f"one, got {self.resamples}; 1000 is usual"
            )

    @property
    def pair_resamples(self) -> int:
        """How often pairs are drawn."""
        return min(self.resamples, PAIR_RESAMPLES)

    def advance(self, done: int) -> None:
        """Tell the caller."""
        if self.progress is not None:
            self.progress(done)


def evaluate(
    systems: Mapping[str, ArrayLike], labels: ArrayLike, subjects: ArrayLike, read: Read, plan: Plan
) -> Resamples:
    """Figures of each system, averaged over its runs, on the trials as they are and on each resample.

    Args:
        systems: scores by the name that errors call them, (trials,) or (runs, trials).
        labels: (trials,) bool or integer, 1 = genuine.
        subjects: (trials, 2) integers, on each side of each trial.
        read: curve to figures (figures,).
        plan: of the draws.

    Returns:
        Estimates and values; systems in the order given.
    """
    genuine = check_labels(labels)
    runs = [_check_runs(scores, genuine.size, name) for name, scores in systems.items()]
    who = Subjects.of(subjects, genuine, plan.strata)
    estimates = np.array([_averages([det_curve(run, genuine) for run in group], read) for group in runs])
    kind = GriddedSystems if genuine.size > LONGEST_EXACT else RankedSystems
    source = kind.of(runs, genuine, who)
    return Resamples(
        estimates=estimates,
        values=_fill(estimates, source.by_subjects(plan.resamples, plan.seed), plan.resamples, read, plan),
        of_pairs=_fill(estimates, source.by_pairs(plan.pair_resamples, plan.seed), plan.pair_resamples, read, plan),
        subjects=who.count,
    )


def _fill(like: Floats, curves: Iterable[Curves], count: int, read: Read, plan: Plan) -> Floats:
    """Figures of each resample (systems, figures, count)."""
    values = np.empty((*like.shape, count))
    for number, systems in enumerate(curves):
        for system, runs in enumerate(systems):
            values[system, :, number] = _averages(runs, read)
        plan.advance(1)
    return values


def _averages(curves: Sequence[DetCurve], read: Read) -> Floats:
    """Mean of each figure over the curves of the runs, (figures,)."""
    values = np.array([read(det) for det in curves])
    means: Floats = np.sort(values, axis=0).mean(axis=0)  # sorted: the order of the runs never shows, not even in ulps
    return means


def _check_runs(scores: ArrayLike, trials: int, name: str) -> list[Scores]:
    given = np.asarray(scores)
    if given.ndim != 2:
        return [check_scores(given, trials, name)]
    if len(given) == 0:
        raise ValueError(f"{name} must hold at least one run, got shape {given.shape}")
    return [check_scores(run, trials, f"{name} of run {number}") for number, run in enumerate(given)]
