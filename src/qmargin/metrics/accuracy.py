"""Pair accuracy: the share of right decisions in ten-fold cross-validation, as LFW and the sets after it report it.

Conventions: for each fold the threshold is chosen on the other folds and used on this one. Folds are runs of the list
in its order, of equal length, the first `trials % folds` of them one longer, unless the list numbers them itself.
The figure is the mean of the folds' accuracies; every fold counts once, however long.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qmargin.metrics._validate import Floats, Mask, Scores, check_labels, check_scores

Folds = NDArray[np.int64]
DISTANCES = np.arange(0, 4, 0.01)  # squared distances of the public scripts' grid


@dataclass(frozen=True, eq=False)
class PairAccuracy:
    """Accuracy over folds, with what each fold did."""

    mean: float  # over folds, in [0, 1]
    spread: float  # standard deviation over folds, divided by their number: what most tables print after the mean
    standard_error: float  # of the mean, sample deviation / sqrt(folds): what the LFW site prints
    per_fold: Floats  # (folds,)
    thresholds: Floats  # (folds,) chosen on the other folds


def file_order_folds(trials: int, folds: int = 10) -> Folds:
    """Fold of each trial of a list that does not number them: equal runs in its order.

    Raises:
        ValueError: fewer than two folds, or fewer trials than folds.

    Example:
        >>> file_order_folds(7, folds=3).tolist()
        [0, 0, 0, 1, 1, 2, 2]
    """
    if folds < 2 or trials < folds:
        raise ValueError(f"{folds} folds need at least 2 folds and as many pairs as folds, got {trials} pairs")
    sizes = np.full(folds, trials // folds)
    sizes[: trials % folds] += 1
    return np.repeat(np.arange(folds), sizes)


def pair_accuracy(scores: ArrayLike, labels: ArrayLike, folds: ArrayLike | None = None) -> PairAccuracy:
    """Cross-validated accuracy with the threshold that is best on the other folds.

    A threshold accepts `score >= t`. Candidates are the distinct scores of the other folds and +inf (accept nothing);
    of equally accurate ones the highest is taken, as the peers' scan from distance 0 does. The order within a fold, and
    of tied pairs, does not matter.

    Args:
        scores: (pairs,) finite, higher = more alike.
        labels: (pairs,) bool or integer, 1 = same person; both classes present.
        folds: (pairs,) integers, the fold of each pair; by default ten in the order of the list.

    Returns:
        The accuracy.

    Raises:
        ValueError: trials that `det_curve` refuses, folds of another shape, fewer than two folds.

    Example:
        >>> result = pair_accuracy([0.9, 0.1, 0.8, 0.3, 0.7, 0.75], [1, 0, 1, 0, 1, 0], folds=[0, 0, 1, 1, 2, 2])
        >>> result.per_fold.tolist(), result.thresholds.tolist()
        ([1.0, 0.5, 0.5], [0.8, 0.9, 0.8])

    Reference: Huang et al., "Labeled Faces in the Wild", 2007, whose view 2 has ten folds.

    See also `grid_pair_accuracy`, what public training scripts compute, and `qmargin.metrics.eer`.
    """
    genuine = check_labels(labels)
    given = check_scores(scores, genuine.size)
    numbers = check_folds(folds, genuine.size)

    def choose(others: Mask) -> float:
        return _best_threshold(given[others], genuine[others])

    def right(fold: Mask, threshold: float) -> float:
        return float(np.mean((given[fold] >= threshold) == genuine[fold]))

    return _cross_validate(numbers, choose, right)


def grid_pair_accuracy(cosines: ArrayLike, labels: ArrayLike, folds: ArrayLike | None = None) -> PairAccuracy:
    """Accuracy as insightface's `verification.py` and its copies compute it: the threshold on a fixed grid.

    On squared distances of unit embeddings, `d = 2 - 2 cos`, a pair is accepted where `d < t`; t runs over 0, 0.01,
    ..., 3.99, and of equally accurate ones the first, lowest distance is taken. `thresholds` are these distances.

    Args:
        cosines: (pairs,) in [-1, 1], up to rounding.
        labels: as `pair_accuracy`.
        folds: as `pair_accuracy`.

    Returns:
        The accuracy; it differs from `pair_accuracy` where the grid is coarser than the scores.

    Raises:
        ValueError: as `pair_accuracy`; a score that is no cosine.

    Example:
        >>> result = grid_pair_accuracy([0.897, 0.1, 0.797, 0.3], [1, 0, 1, 0], folds=[0, 0, 1, 1])
        >>> result.mean, [round(t, 2) for t in result.thresholds.tolist()]
        (0.75, [0.41, 0.21])
    """
    genuine = check_labels(labels)
    given = check_cosines(check_scores(cosines, genuine.size))
    numbers = check_folds(folds, genuine.size)
    distances = 2.0 - 2.0 * given.astype(np.float64)

    def choose(others: Mask) -> float:
        same, different = np.sort(distances[others & genuine]), np.sort(distances[others & ~genuine])
        hits = np.searchsorted(same, DISTANCES) + different.size - np.searchsorted(different, DISTANCES)
        return float(DISTANCES[hits.argmax()])

    def right(fold: Mask, threshold: float) -> float:
        return float(np.mean((distances[fold] < threshold) == genuine[fold]))

    return _cross_validate(numbers, choose, right)


def check_cosines(scores: Scores) -> Scores:
    """The scores (pairs,), or a ValueError where they cannot be cosines."""
    if np.abs(scores).max() > 1.0 + 1e-4:
        raise ValueError(f"the grid of distances is for cosines in [-1, 1], got a score of {np.abs(scores).max():g}")
    return scores


def check_folds(folds: ArrayLike | None, trials: int) -> Folds:
    """Folds (trials,) numbered from 0, ten in file order where None; a ValueError for fewer than two."""
    given = file_order_folds(trials) if folds is None else np.asarray(folds)
    if given.shape != (trials,) or given.dtype.kind not in "iu":
        raise ValueError(f"folds must be integers of shape ({trials},), got {given.dtype} {given.shape}")
    numbers: Folds = np.unique(given, return_inverse=True)[1].astype(np.int64)
    if trials and numbers.max() == 0:
        raise ValueError("folds must be at least two, got one: the threshold is chosen on the others")
    return numbers


def _best_threshold(scores: Scores, genuine: Mask) -> float:
    """Highest of the most accurate thresholds; with one class only, still right: accept all, or nothing."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    gains = np.concatenate([[0], np.cumsum(np.where(genuine[order], 1, -1))])  # right decisions beyond +inf's
    ends = np.concatenate([[True], falling[1:] != falling[:-1], [True]])  # a tie is accepted whole
    best = int(np.where(ends, gains, np.iinfo(np.int64).min).argmax())
    return np.inf if best == 0 else float(falling[best - 1])


def _cross_validate(
    numbers: Folds, choose: Callable[[Mask], float], right: Callable[[Mask, float], float]
) -> PairAccuracy:
    count = int(numbers.max()) + 1
    thresholds = [choose(numbers != fold) for fold in range(count)]
    shares = np.array([right(numbers == fold, thresholds[fold]) for fold in range(count)])
    return PairAccuracy(
        mean=float(shares.mean()),
        spread=float(shares.std()),
        standard_error=float(shares.std(ddof=1) / np.sqrt(count)),
        per_fold=shares,
        thresholds=np.array(thresholds),
    )
