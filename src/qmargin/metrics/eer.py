"""Equal error rate, in the two definitions worth keeping apart: on the step function, and on the ROC convex hull.

Conventions:
    FAR and FRR are step functions of the threshold and seldom equal anywhere. Along the points of the DET curve
    FAR - FRR falls from 1 to -1. `eer` is (FAR + FRR) / 2 at the point where |FAR - FRR| is smallest; where two points
    share the smallest value (one on each side of the crossing), the mean of the two. No interpolation.
    `eer_hull` is where the convex hull of the curve meets FAR = FRR: what the best mixture of two thresholds reaches.
    Equal scores are one point, so all scores equal give 0.5 in both. Rates, not per cent.
"""

import math
from bisect import bisect_left

from numpy.typing import ArrayLike

from qmargin.metrics.det import DetCurve, det_curve

_ROUNDING = 1e-15  # of a difference of two rates; real differences are multiples of 1 / (genuine * impostor)


def eer(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate on the step function: `(FAR + FRR) / 2` where `|FAR - FRR|` is smallest.

    Args:
        scores: (trials,) finite, higher = more alike.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.

    Returns:
        The rate, in [0, 1]; 0.5 where all scores are equal, above 0.5 where the sign of the scores is wrong.

    Raises:
        ValueError: trials that `det_curve` refuses.

    Example:
        >>> eer([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1])  # at 0.6: FAR 1/4, FRR 0; at 0.7: 1/4, 1/2
        0.25

    Reference: the module's conventions; other tools interpolate, or take the larger of the two rates.

    See also `eer_hull`, which may lie on either side of this figure, and `eer_of`.
    """
    return eer_of(det_curve(scores, labels))


def eer_of(det: DetCurve) -> float:
    """As `eer`, on a curve that is sorted already.

    Example:
        >>> eer_of(det_curve([0.5, 0.5, 0.5], [0, 1, 0]))
        0.5

    See also `eer`.
    """
    after = _crossing(det)
    lead_before = float(det.far[after - 1] - det.frr[after - 1])
    lead_after = float(det.frr[after] - det.far[after])
    before, behind = (float(det.far[point] + det.frr[point]) / 2.0 for point in (after - 1, after))
    if math.isclose(lead_before, lead_after, rel_tol=0.0, abs_tol=_ROUNDING):
        return (before + behind) / 2.0
    return before if lead_before < lead_after else behind


def eer_hull(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate of the ROC convex hull: `max over p in [0, 1] of min over t of p FRR(t) + (1 - p) FAR(t)`.

    Args:
        scores: (trials,) finite, higher = more alike.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.

    Returns:
        The rate, in [0, 0.5]: a system that is worse than chance is thrown away by the hull.

    Raises:
        ValueError: trials that `det_curve` refuses.

    Example:
        >>> round(eer_hull([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1]), 4)  # from (1/4, 0) to (0, 1/2)
        0.1667

    Reference: Brümmer and de Villiers, "The BOSARIS toolkit", 2013, arXiv:1304.2865.

    See also `eer`.
    """
    return eer_hull_of(det_curve(scores, labels))


def eer_hull_of(det: DetCurve) -> float:
    """As `eer_hull`, on a curve that is sorted already.

    The hull's edge over FAR = FRR is found by quickhull on that side alone: from the chord between the two ends of the
    curve, go to the point farthest below the chord, keep the half that crosses, repeat until no point lies below.

    Example:
        >>> eer_hull_of(det_curve([0.5, 0.5, 0.5], [0, 1, 0]))
        0.5

    See also `eer_hull`.
    """
    first, last = 0, det.far.size - 1  # FAR >= FRR at `first`, FAR < FRR at `last`
    while last - first > 1:
        fall, rise = det.far[first] - det.far[last], det.frr[last] - det.frr[first]
        inner = slice(first + 1, last)
        height = rise * det.far[inner] + fall * det.frr[inner]
        lowest = int(height.argmin())
        chord = rise * det.far[first] + fall * det.frr[first]
        if height[lowest] >= chord - _ROUNDING * (fall + rise):
            break
        point = first + 1 + lowest
        if det.far[point] >= det.frr[point]:
            first = point
        else:
            last = point
    lead, lag = det.far[first] - det.frr[first], det.frr[last] - det.far[last]
    share = lead / (lead + lag)
    return float(det.far[first] + share * (det.far[last] - det.far[first]))


def _crossing(det: DetCurve) -> int:
    """First point with FRR > FAR: never the first (FAR 1, FRR 0), at the latest the last (FAR 0, FRR 1)."""
    return bisect_left(range(det.far.size), True, key=lambda point: bool(det.frr[point] > det.far[point]))
