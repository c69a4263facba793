"""Detection cost: errors weighted by a prior and by what each kind costs, relative to a system that never listens.

Conventions:
    p = p_target is the prior of a genuine trial, and part of the name: minDCF(0.01). At threshold t
    DCF(t) = [c_miss p P_miss(t) + c_fa (1 - p) P_fa(t)] / min(c_miss p, c_fa (1 - p)),
    with P_miss = FRR and P_fa = FAR. The denominator is the default cost, of accepting everything or nothing,
    whichever is cheaper: 1 means that the scores are worth nothing, so all scores equal give minDCF 1.
    minDCF is the least DCF over all thresholds (+inf included). actDCF is the DCF at the Bayes threshold, and needs
    scores that are log-likelihood ratios (natural logarithm).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics.det import DetCurve, det_curve


def min_dcf(scores: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Least normalised detection cost over all thresholds, `min over t of DCF(t)`.

    Args:
        scores: (trials,) finite, higher = more alike.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.
        p_target: prior of a genuine trial, in (0, 1).
        c_miss: cost of refusing a genuine trial, > 0.
        c_fa: cost of accepting an impostor, > 0.

    Returns:
        The cost, in [0, 1].

    Raises:
        ValueError: a prior or a cost out of range; trials that `det_curve` refuses.

    Example:
        >>> min_dcf([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1], p_target=0.5)  # at 0.6: FAR 1/4, FRR 0
        0.25
        >>> min_dcf([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1], p_target=0.01)  # at 0.9: FAR 0, FRR 1/2
        0.5

    Reference: NIST 2021 speaker recognition evaluation plan; some tools leave the division out.

    See also `act_dcf`, at a threshold fixed beforehand, and `min_dcf_of`.
    """
    return min_dcf_of(det_curve(scores, labels), p_target, c_miss, c_fa)


def min_dcf_of(det: DetCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """As `min_dcf`, on a curve that is sorted already.

    Example:
        >>> min_dcf_of(det_curve([0.5, 0.5, 0.5], [0, 1, 0]), p_target=0.01)
        1.0

    See also `min_dcf`.
    """
    miss, fa = _normalised_costs(p_target, c_miss, c_fa)
    return float((miss * det.frr + fa * det.far).min())


def min_dcf_threshold_of(det: DetCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Lowest threshold at which the cost is `min_dcf_of`, found with knowledge of the labels: for looking, not for use.

    Example:
        >>> min_dcf_threshold_of(det_curve([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1]), p_target=0.01)
        0.9

    See also `bayes_threshold`, which needs no labels.
    """
    miss, fa = _normalised_costs(p_target, c_miss, c_fa)
    return float(det.thresholds[(miss * det.frr + fa * det.far).argmin()])


def act_dcf(scores: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Normalised detection cost at the Bayes threshold, `DCF(bayes_threshold(p_target, c_miss, c_fa))`.

    Args:
        scores: (trials,) calibrated log-likelihood ratios (natural logarithm); cosines are not.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.
        p_target: prior of a genuine trial, in (0, 1).
        c_miss: cost of refusing a genuine trial, > 0.
        c_fa: cost of accepting an impostor, > 0.

    Returns:
        The cost, >= `min_dcf` and possibly far above 1.

    Raises:
        ValueError: as `min_dcf`.

    Example:
        >>> round(act_dcf([-7.0, 1.0, 2.0, 6.0], [0, 0, 1, 1], p_target=0.01), 4)  # threshold log 99 = 4.595
        0.5

    Reference: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006.

    See also `min_dcf`; the gap between the two is the loss by calibration.
    """
    return act_dcf_of(det_curve(scores, labels), p_target, c_miss, c_fa)


def act_dcf_of(det: DetCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """As `act_dcf`, on a curve that is sorted already.

    Example:
        >>> act_dcf_of(det_curve([-1.0, 1.0], [0, 1]), p_target=0.5)
        0.0

    See also `act_dcf`.
    """
    miss, fa = _normalised_costs(p_target, c_miss, c_fa)
    point = np.searchsorted(det.thresholds, bayes_threshold(p_target, c_miss, c_fa))
    return float(miss * det.frr[point] + fa * det.far[point])


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Threshold of least expected cost for log-likelihood ratios, `log(c_fa (1 - p) / (c_miss p))`.

    Example:
        >>> round(bayes_threshold(0.01), 4)
        4.5951

    See also `act_dcf`.
    """
    _check_costs(p_target, c_miss, c_fa)
    return math.log(c_fa / c_miss) + math.log1p(-p_target) - math.log(p_target)


def _normalised_costs(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Cost of a P_miss of 1 and of a P_fa of 1, the smaller of which is exactly 1."""
    _check_costs(p_target, c_miss, c_fa)
    miss, fa = c_miss * p_target, c_fa * (1.0 - p_target)
    default = min(miss, fa)
    return miss / default, fa / default


def _check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    if not 0.0 < p_target < 1.0:
        raise ValueError(f"p_target must be a prior in (0, 1), got {p_target}; usual ones are 0.05, 0.01 and 0.001")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0.0 < cost < math.inf:
            raise ValueError(f"{name} must be a finite cost > 0, got {cost}; 1 is usual")
