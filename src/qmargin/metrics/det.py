"""The DET curve: how often impostors are accepted and genuine trials refused, at every threshold that matters.

Conventions:
    A threshold t accepts `score >= t`. With weights 1 (the default) the rates are shares of trials:
    FAR(t) = P_fa(t) = share of impostor trials with score >= t,
    FRR(t) = P_miss(t) = share of genuine trials with score < t.
    Points stand at each distinct score, in RISING order, and at +inf (accept nothing): the first point accepts
    everything (FAR 1, FRR 0), the last nothing (FAR 0, FRR 1). FAR never rises along the points, FRR never falls.
    Equal scores are one point, whatever their labels and their order. FAR = count / total exactly (one division).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin.metrics._validate import (
    Floats,
    Mask,
    Numbers,
    Scores,
    check_labels,
    check_scores,
    check_weights,
)

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class DetCurve:
    """Points of a DET curve by rising threshold, the last one infinite; see the conventions of this module.

    `genuine` and `impostor` are the class totals: numbers of trials, or total weights where weights were given.
    """

    thresholds: Floats  # (points,) accept where score >= threshold
    far: Floats  # (points,) in [0, 1], from 1 down to 0
    frr: Floats  # (points,) in [0, 1], from 0 up to 1
    genuine: float
    impostor: float
    resampled: bool = False  # a bootstrap resample: a figure must not refuse it for resting on too few trials


@dataclass(frozen=True, eq=False)
class RankedTrials:
    """Trials sorted once, so that each further choice of weights costs two cumulative sums and no sort.

    The bootstrap's workhorse. `genuine_at` and `impostor_at` say where, in the weights given to `curve`, the weight of
    each sorted trial stands; as built they are the trial's index in the list.
    """

    cutoffs: Scores  # (points,) distinct scores rising, then +inf
    genuine_below: Indices  # (points,) number of genuine trials with score < cutoff
    impostor_below: Indices
    genuine_at: Indices  # (genuine trials,) by rising score
    impostor_at: Indices

    @classmethod
    def of(cls, scores: Scores, genuine: Mask) -> "RankedTrials":
        """Sort checked scores (trials,) with their mask of genuine trials."""
        genuine_at, impostor_at = np.flatnonzero(genuine), np.flatnonzero(~genuine)
        genuine_at = genuine_at[np.argsort(scores[genuine_at])]
        impostor_at = impostor_at[np.argsort(scores[impostor_at])]
        return cls(*_merge(scores[genuine_at], scores[impostor_at]), genuine_at, impostor_at)

    def curve(self, weights: Numbers, *, resampled: bool = False) -> DetCurve:
        """Curve with these weights; scores of total weight 0 are no points, as if their trials were absent."""
        missed = _sums(weights[self.genuine_at])[self.genuine_below]
        rejected = _sums(weights[self.impostor_at])[self.impostor_below]
        return curve_of(self.cutoffs, missed, rejected, resampled=resampled)


def curve_of(cutoffs: Scores, missed: NDArray[Any], rejected: NDArray[Any], *, resampled: bool) -> DetCurve:
    """Curve from the weights (points,) of each class below each cutoff, the last of them the totals."""
    present = np.ones(missed.size, dtype=bool)  # the last point, +inf, always stands
    np.greater(missed[1:], missed[:-1], out=present[:-1])
    present[:-1] |= rejected[1:] > rejected[:-1]
    points = np.flatnonzero(present)
    genuine, impostor = missed[-1].item(), rejected[-1].item()
    far, frr = (impostor - rejected[points]) / impostor, missed[points] / genuine
    return DetCurve(cutoffs[points].astype(np.float64), far, frr, genuine, impostor, resampled)


def det_curve(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> DetCurve:
    """DET curve of a list of trials, one point per distinct score and one at +inf.

    `far[k] = sum(w[~genuine & (scores >= t[k])]) / sum(w[~genuine])`, `frr[k] = sum(w[genuine & (scores < t[k])]) /
    sum(w[genuine])`, with w = 1 where no weights are given. O(n log n); float32 scores stay float32 while sorted.

    Args:
        scores: (trials,) finite, higher = more alike.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.
        weights: (trials,) >= 0. An integer weight n counts as n copies of the trial, 0 as none; the total weight of a
            class takes the place of its number of trials.

    Returns:
        The points by rising threshold, float64.

    Raises:
        ValueError: empty input, one class only, labels other than 0/1, shapes that differ, a score that is nan (the
            first such trial is named) or infinite, a negative weight.

    Example:
        >>> det = det_curve([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
        >>> det.thresholds, det.far, det.frr
        (array([0.1, 0.4, 0.8, inf]), array([1. , 0.5, 0. , 0. ]), array([0. , 0. , 0.5, 1. ]))

    Reference: Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.

    See also `sklearn.metrics.det_curve`, which cuts the flat ends off.
    """
    genuine = check_labels(labels)
    given = check_scores(scores, genuine.size)
    if weights is not None:
        return RankedTrials.of(given, genuine).curve(check_weights(weights, genuine))
    cutoffs, missed, rejected = _merge(np.sort(given[genuine]), np.sort(given[~genuine]))
    totals = missed[-1].item(), rejected[-1].item()
    np.subtract(totals[1], rejected, out=rejected)  # in place, and `del`: 30 million trials are 250 MB an array
    far = rejected / totals[1]
    del rejected
    frr = missed / totals[0]
    del missed
    return DetCurve(cutoffs.astype(np.float64), far, frr, *totals)


def _merge(genuine: Scores, impostor: Scores) -> tuple[Scores, Indices, Indices]:
    """Distinct values of two sorted arrays and +inf, rising, and how many of each array lie below each (points,)."""
    merged = np.concatenate([genuine, impostor, np.array([np.inf], dtype=impostor.dtype)])
    merged.sort(kind="stable")  # merges two sorted runs in linear time
    first = np.ones(merged.size, dtype=bool)
    np.not_equal(merged[1:], merged[:-1], out=first[1:])
    cutoffs: Scores = merged[first]
    del merged, impostor
    impostor_below = np.flatnonzero(first)  # for the moment, the trials of both classes
    # to find the few genuine scores among the cutoffs is ten times faster than each cutoff among the scores
    genuine_there = np.bincount(np.searchsorted(cutoffs, genuine), minlength=cutoffs.size)
    genuine_below = np.zeros_like(impostor_below)
    np.cumsum(genuine_there[:-1], out=genuine_below[1:])
    impostor_below -= genuine_below
    return cutoffs, genuine_below, impostor_below


def _sums(weights: Numbers) -> NDArray[Any]:
    """Cumulative sums (n + 1,) with the leading 0: entry k is the weight of the first k trials."""
    sums = np.zeros(weights.size + 1, dtype=weights.dtype)
    np.cumsum(weights, out=sums[1:])
    return sums
