"""Intervals of pair accuracy: the ten-fold protocol on every resample of the subjects, threshold choice included.

Conventions: pairs are weighed as in `bootstrap.py`; a resample's accuracy of a fold is the weighted share of its right
decisions, at the threshold that is best by weight on the other folds. A fold that a resample leaves empty is left out
of the resample's mean. Folds stay as they are: a subject who is in two folds is so in the resample.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin.metrics._exact import TrialSubjects
from qmargin.metrics._intervals import Method, check_method
from qmargin.metrics._resampling import Plan, Progress, Resamples
from qmargin.metrics._subjects import Counts, Strata, Subjects
from qmargin.metrics._validate import Floats, Mask, Scores, check_labels, check_scores
from qmargin.metrics.accuracy import DISTANCES, Folds, check_cosines, check_folds
from qmargin.metrics.bootstrap import Interval, intervals_of

ACCURACY, GRID_ACCURACY = "accuracy", "accuracy (grid)"


def pair_accuracy_bootstrap(
    cosines: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    folds: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> dict[str, Interval]:
    """Intervals of `pair_accuracy` ("accuracy") and `grid_pair_accuracy` ("accuracy (grid)") over resampled subjects.

    Args:
        cosines: (pairs,) in [-1, 1], up to rounding.
        labels: (pairs,) bool or integer, 1 = same person; both classes present.
        subjects: (pairs, 2) integers, the subject on each side; equal where the label is 1, different where it is 0.
        folds: (pairs,) integers; by default ten in the order of the list.
        resamples: number of draws, at least 2 / (1 - confidence).
        confidence: in (0, 1).
        seed: of the draws.
        method: "wilson" or "percentile".
        strata: as in `subject_bootstrap`.
        progress: called with the number of resamples just done.

    Returns:
        Both intervals by name; estimates are the means of `pair_accuracy` and `grid_pair_accuracy`.

    Raises:
        ValueError: as `grid_pair_accuracy` and `subject_bootstrap`.

    Example:
        >>> subjects = np.array([(k % 6, (k if k % 2 else k + 1) % 6) for k in range(60)])
        >>> labels = subjects[:, 0] == subjects[:, 1]
        >>> cosines = np.clip(0.2 * np.random.default_rng(0).normal(size=60) + 0.4 * labels, -1, 1)
        >>> found = pair_accuracy_bootstrap(cosines, labels, subjects, resamples=100)["accuracy"]
        >>> f"{found.estimate:.3f} in [{found.low:.3f}, {found.high:.3f}]"
        '0.817 in [0.478, 0.956]'

    Reference: as `pair_accuracy` and `subject_bootstrap`.

    See also `pair_accuracy`; `subject_bootstrap`, for figures of a DET curve.
    """
    check_method(method)
    plan = Plan(resamples=resamples, confidence=confidence, seed=seed, strata=strata, progress=progress)
    genuine = check_labels(labels)
    given = check_cosines(check_scores(cosines, genuine.size))
    ranked = RankedPairs(given, genuine, check_folds(folds, genuine.size))
    who = Subjects.of(subjects, genuine, strata)
    trials = TrialSubjects.of(who, genuine)
    draws = trials.resamples(plan.resamples, np.random.default_rng(seed))
    pairs = trials.pair_resamples(plan.pair_resamples, np.random.default_rng([seed, 1]))
    found = Resamples(
        estimates=ranked.accuracies(np.ones(genuine.size, dtype=np.int64))[np.newaxis],
        values=_fill(ranked, trials, draws, plan),
        of_pairs=_fill(ranked, trials, pairs, plan),
        subjects=who.count,
    )
    return intervals_of(found, [ACCURACY, GRID_ACCURACY], method, plan)


class RankedPairs:
    """Pairs by falling score, so that each choice of weights costs one cumulative sum a fold and no sort."""

    def __init__(self, cosines: Scores, genuine: Mask, folds: Folds) -> None:
        """Sort the pairs; see where each candidate threshold cuts them."""
        self._order = np.argsort(-cosines, kind="stable")
        falling = cosines[self._order]
        self._sign = np.where(genuine[self._order], 1, -1)
        self._fold, self._count = folds[self._order], int(folds.max()) + 1
        last = np.append(falling[1:] != falling[:-1], True)
        distances = 2.0 - 2.0 * falling.astype(np.float64)
        self._accepted = (  # number of pairs accepted at each candidate, from the highest threshold down
            np.concatenate([[0], np.flatnonzero(last) + 1]),
            np.searchsorted(distances, DISTANCES),
        )

    def accuracies(self, weights: Counts) -> Floats:
        """Accuracy and accuracy on the grid, (2,), of pairs of these weights (pairs,)."""
        ranked = weights[self._order]
        places = np.arange(ranked.size)
        gains = np.zeros((self._count, ranked.size + 1), dtype=np.int64)  # right decisions beyond accepting nothing
        gains[self._fold, places + 1] = self._sign * ranked
        np.cumsum(gains, axis=1, out=gains)
        totals = np.bincount(self._fold, ranked, minlength=self._count)
        refused = np.bincount(self._fold, np.where(self._sign < 0, ranked, 0), minlength=self._count)
        there = totals > 0
        found = np.empty(2)
        for k, accepted in enumerate(self._accepted):
            at = gains[:, accepted]  # (folds, candidates)
            best = (at.sum(axis=0) - at).argmax(axis=1)  # on the other folds, the highest of equal thresholds
            right = refused + at[np.arange(self._count), best]
            found[k] = (right[there] / totals[there]).mean()
        return found


def _fill(ranked: RankedPairs, trials: TrialSubjects, draws: Iterable[Counts], plan: Plan) -> Floats:
    """Both accuracies of each draw, (1, 2, draws)."""
    rows: list[NDArray[np.float64]] = []
    for weights in draws:
        rows.append(ranked.accuracies(weights[trials.at]))
        plan.advance(1)
    return np.array(rows).T[np.newaxis]
