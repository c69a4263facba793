"""The inner loop of the bootstrap over subjects: draws, weights, and one curve for each run and resample.

Conventions:
    A draw takes as many subjects as there are, with replacement; subject i comes w_i times. A genuine trial of subject
    i weighs w_i, an impostor trial of subjects i and j weighs w_i w_j. All systems and runs see the same draws. A draw
    that leaves no genuine or no impostor trial is drawn again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin.metrics._grid import BATCH, GriddedTrials
from qmargin.metrics._validate import Floats, Mask, Scores
from qmargin.metrics.det import DetCurve, Indices, RankedTrials, det_curve

Statistic = Callable[[DetCurve], float]
Counts = NDArray[np.int64]
LONGEST_EXACT = 400_000  # trials; on longer lists resamples are read on the grid of `_grid.py`


@dataclass(frozen=True, eq=False)
class TrialSubjects:
    """Which weight each trial takes: one for each subject (genuine trials), then one for each pair (impostor trials).

    Trials of the same two subjects, left and right, share a pair, so a draw fills `subjects + pairs` weights.
    """

    subjects: int
    left: Indices  # (pairs,) subject 0..subjects - 1
    right: Indices
    at: Indices  # (trials,) where the weight of the trial stands, 0..subjects + pairs - 1
    trials_at: Counts  # (subjects + pairs,) number of trials that take this weight

    @classmethod
    def of(cls, subjects: ArrayLike, genuine: Mask) -> "TrialSubjects":
        """Index the subjects (trials, 2) of each trial; a ValueError names the first trial that contradicts itself."""
        count, sides = _number_subjects(subjects, genuine)
        left, right = sides.T.astype(np.int64)
        codes, pair = np.unique(left[~genuine] * count + right[~genuine], return_inverse=True)
        at = left.copy()
        at[~genuine] = count + pair
        left, right = np.divmod(codes, count)
        return cls(count, left, right, at, np.bincount(at, minlength=count + codes.size))

    def weights(self, drawn: Counts) -> Counts:
        """Weights (subjects + pairs,) of a draw (subjects,) that took subject i `drawn[i]` times."""
        return np.concatenate([drawn, drawn[self.left] * drawn[self.right]])

    def resamples(self, count: int, seed: int) -> Iterator[Counts]:
        """Yield `count` weights (subjects + pairs,), each leaving trials of both classes."""
        generator = np.random.default_rng(seed)
        for _ in range(count):
            weights = self._draw(generator)
            while not self._both_classes(weights):
                weights = self._draw(generator)
            yield weights

    def _draw(self, generator: np.random.Generator) -> Counts:
        return self.weights(_draw(generator, self.subjects))

    def _both_classes(self, weights: Counts) -> bool:
        present = (weights > 0) & (self.trials_at > 0)
        return bool(present[: self.subjects].any() and present[self.subjects :].any())


def evaluate(
    systems: Sequence[Sequence[Scores]],
    genuine: Mask,
    subjects: ArrayLike,
    statistics: Sequence[Statistic],
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Statistics of each system, averaged over its runs: estimates (systems, statistics), and on each resample.

    Args:
        systems: for each system its runs, each of scores (trials,), checked.
        genuine: (trials,) mask.
        subjects: (trials, 2) integers, on each side of each trial.
        statistics: functions of a curve.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Estimates (systems, statistics) on the trials as they are, and values (systems, statistics, resamples).
    """
    if genuine.size > LONGEST_EXACT:
        return _evaluate_gridded(systems, genuine, subjects, statistics, resamples, seed)
    trials = TrialSubjects.of(subjects, genuine)
    ranked = [[_rank(run, genuine, trials) for run in runs] for runs in systems]
    once = np.ones(trials.trials_at.size, dtype=np.int64)
    estimates = np.array([_averages([run.curve(once) for run in runs], statistics) for runs in ranked])
    values = np.empty((len(systems), len(statistics), resamples))
    for number, weights in enumerate(trials.resamples(resamples, seed)):
        for system, runs in enumerate(ranked):
            values[system, :, number] = _averages([run.curve(weights, resampled=True) for run in runs], statistics)
    return estimates, values


def _evaluate_gridded(
    systems: Sequence[Sequence[Scores]],
    genuine: Mask,
    subjects: ArrayLike,
    statistics: Sequence[Statistic],
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """As `evaluate`: estimates from whole curves, resamples on the grid of `_grid.py`, the same draws."""
    count, sides = _number_subjects(subjects, genuine)
    estimates = np.array([_averages([det_curve(run, genuine) for run in runs], statistics) for runs in systems])
    grids = [[GriddedTrials.of(run, genuine, sides) for run in runs] for runs in systems]
    generator = np.random.default_rng(seed)
    values = np.empty((len(systems), len(statistics), resamples))
    done = 0
    while done < resamples:
        drawn = np.stack([_draw(generator, count) for _ in range(min(BATCH, resamples - done))])
        curves = [[list(grid.curves(drawn)) for grid in runs] for runs in grids]
        # a draw that leaves a class empty does so for every system and run; it is drawn again
        kept = [number for number in range(len(drawn)) if curves[0][0][number] is not None]
        for system, runs in enumerate(curves):
            for place, number in enumerate(kept, done):
                taken = [curve for run in runs if (curve := run[number]) is not None]
                values[system, :, place] = _averages(taken, statistics)
        done += len(kept)
    return estimates, values


def _rank(scores: Scores, genuine: Mask, trials: TrialSubjects) -> RankedTrials:
    ranked = RankedTrials.of(scores, genuine)
    return replace(ranked, genuine_at=trials.at[ranked.genuine_at], impostor_at=trials.at[ranked.impostor_at])


def _averages(curves: Sequence[DetCurve], statistics: Sequence[Statistic]) -> Floats:
    """Mean of each statistic over the curves of the runs, (statistics,)."""
    values = np.array([[statistic(det) for statistic in statistics] for det in curves])
    means: Floats = np.sort(values, axis=0).mean(axis=0)  # sorted: the order of the runs never shows, not even in ulps
    return means


def _draw(generator: np.random.Generator, subjects: int) -> Counts:
    """How often each subject is drawn, (subjects,)."""
    return np.bincount(generator.integers(subjects, size=subjects), minlength=subjects)


def _number_subjects(subjects: ArrayLike, genuine: Mask) -> tuple[int, NDArray[np.int32]]:
    """Number of subjects, and each trial's (trials, 2) as 0..subjects - 1, checked."""
    names, index = np.unique(_check_subjects(subjects, genuine), return_inverse=True)
    return names.size, index.reshape(-1, 2).astype(np.int32)


def _check_subjects(subjects: ArrayLike, genuine: Mask) -> NDArray[np.integer]:
    given = np.asarray(subjects)
    if given.shape != (genuine.size, 2):
        raise ValueError(
            f"subjects must have shape ({genuine.size}, 2), the subject on each side of each trial, got {given.shape}"
        )
    if given.dtype.kind not in "iu":
        raise ValueError(
            f"subjects must be integers, got dtype {given.dtype}; "
            "number names by `np.unique(names, return_inverse=True)[1].reshape(-1, 2)`"
        )
    wrong = (given[:, 0] == given[:, 1]) != genuine
    if wrong.any():
        first = int(wrong.argmax())
        label, law = ("genuine", "one subject") if genuine[first] else ("impostor", "two different subjects")
        raise ValueError(
            f"a trial labelled {label} must have {law}, got {given[first, 0]} and {given[first, 1]} at trial {first} "
            f"({np.count_nonzero(wrong)} such trials); are subjects, not samples, numbered, and in the order of labels?"
        )
    return given
