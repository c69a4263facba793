"""Cllr: what log-likelihood ratios cost as information, in bits; and the least it could be with these scores.

Conventions:
    Scores are log-likelihood ratios (natural logarithm): llr > 0 speaks for a genuine trial. At equal priors
    Cllr = [mean over genuine of log2(1 + exp(-llr)) + mean over impostors of log2(1 + exp(llr))] / 2.
    0 is perfect, 1 is what llr = 0 for every trial costs (scores worth nothing); a bad calibration may cost more.
    minCllr is the Cllr of the best rising map of the scores. That map is found by pooling adjacent violators, which is
    the same as the convex hull of the DET points: on each edge of the hull the ratio is the edge's slope. Equal scores
    are one group. Cllr - minCllr is the loss by calibration.
"""

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._validate import Floats
from qmargin.metrics.det import DetCurve, Indices, det_curve

_ROUNDING = 1e-15  # relative: below it a point lies on the chord


def cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits, averaged over all priors; see the module's conventions.

    Args:
        scores: (trials,) calibrated log-likelihood ratios (natural logarithm); cosines are not.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.

    Returns:
        The cost, >= `min_cllr`; 1 where all scores are 0.

    Raises:
        ValueError: trials that `det_curve` refuses.

    Example:
        >>> round(cllr([-3.0, -1.0, 2.0, 4.0], [0, 0, 1, 1]), 4)
        0.1828

    Reference: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.

    See also `min_cllr`, `qmargin.metrics.act_dcf` (the cost at one prior) and `cllr_of`.
    """
    return cllr_of(det_curve(scores, labels))


def cllr_of(det: DetCurve) -> float:
    """As `cllr`, on a curve that is sorted already.

    Example:
        >>> cllr_of(det_curve([0.0, 0.0], [0, 1]))
        1.0

    See also `cllr`.
    """
    llr = det.thresholds[:-1]  # each distinct score; between two points lie the trials of the first one's score
    genuine, impostor = np.diff(det.frr), -np.diff(det.far)  # shares of each class
    return _bits(float(genuine @ np.logaddexp(0.0, -llr)), float(impostor @ np.logaddexp(0.0, llr)))


def min_cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Least Cllr over all rising maps of the scores to log-likelihood ratios.

    Args:
        scores: (trials,) finite, higher = more alike; any scale.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.

    Returns:
        The cost, in [0, 1]; 0 where the scores separate the classes, 1 where all are equal or their sign is wrong.

    Raises:
        ValueError: trials that `det_curve` refuses.

    Example:
        >>> round(min_cllr([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1]), 4)
        0.3444

    Reference: Brümmer and de Villiers, "The BOSARIS toolkit", 2013, arXiv:1304.2865.

    See also `cllr` and `min_cllr_of`.
    """
    return min_cllr_of(det_curve(scores, labels))


def min_cllr_of(det: DetCurve) -> float:
    """As `min_cllr`, on a curve that is sorted already.

    Example:
        >>> min_cllr_of(det_curve([0.5, 0.5, 0.5], [0, 1, 0]))
        1.0

    See also `min_cllr`.
    """
    corners = _hull(det.far, det.frr)
    genuine, impostor = np.diff(det.frr[corners]), -np.diff(det.far[corners])  # (edges,) shares of each class
    with np.errstate(divide="ignore"):
        llr = np.log(genuine) - np.log(impostor)  # -inf where an edge has impostors alone: they cost nothing
    passed, stopped = genuine > 0, impostor > 0
    of_genuine, of_impostor = np.logaddexp(0.0, -llr[passed]), np.logaddexp(0.0, llr[stopped])
    return _bits(float(genuine[passed] @ of_genuine), float(impostor[stopped] @ of_impostor))


def _bits(genuine: float, impostor: float) -> float:
    """Half the sum of two means, from nats to bits."""
    return (genuine + impostor) / (2.0 * float(np.log(2.0)))


def _hull(far: Floats, frr: Floats) -> Indices:
    """Indices of the corners of the lower convex hull of the DET points, from the first to the last.

    By quickhull: the point farthest below a chord is a corner; then both halves, until nothing lies below any chord.
    """
    corners = [0, far.size - 1]
    chords = [(0, far.size - 1)]
    while chords:
        first, last = chords.pop()
        if last - first < 2:
            continue
        fall, rise = far[first] - far[last], frr[last] - frr[first]
        inner = slice(first + 1, last)
        height = rise * far[inner] + fall * frr[inner]
        lowest = int(height.argmin())
        chord = rise * far[first] + fall * frr[first]
        if height[lowest] < chord - _ROUNDING * (fall + rise):
            corner = first + 1 + lowest
            corners.append(corner)
            chords += [(first, corner), (corner, last)]
    return np.sort(np.array(corners))
