"""TAR@FAR: the share of genuine trials accepted where at most a share `far` of the impostors is.

Conventions:
    TAR = 1 - FRR; a threshold t accepts `score >= t`; equal scores are accepted or refused together, so the realised
    FAR is usually not the asked one, and is reported with the number of false accepts that the figure rests on.
    A FAR below 1 / impostors is refused: no list of that length can show it.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._validate import Floats, Mask
from qmargin.metrics.det import DetCurve, det_curve

Rule = Literal["conservative", "nearest"]


@dataclass(frozen=True)
class TarAtFar:
    """TAR at one operating point, with what is needed to trust it."""

    tar: float  # in [0, 1]
    far_target: float  # as asked
    far: float  # realised at `threshold`
    threshold: float  # accept where score >= threshold; inf where even the highest score accepts too much
    false_accepts: int  # impostor trials accepted at `threshold` (the nearest integer where trials have weights)
    impostors: float  # impostor trials in all, or their total weight
    rule: Rule


def tar_at_far(scores: ArrayLike, labels: ArrayLike, far: float, rule: Rule = "conservative") -> TarAtFar:
    """TAR at a false accept rate, with the realised FAR, the threshold and the number of false accepts.

    `conservative`: `1 - FRR(t)` at the lowest threshold t with `FAR(t) <= far`. `nearest`: see `tar_at_far_of`.

    Args:
        scores: (trials,) finite, higher = more alike.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor; both classes present.
        far: share of impostors that may be accepted, in [1 / impostors, 1].
        rule: "conservative" never accepts more than `far`; "nearest" reads the curve as most public scripts do.

    Returns:
        The operating point.

    Raises:
        ValueError: `far` outside (0, 1], or below 1 / impostors (the message says how many impostors it needs); an
            unknown rule; trials that `det_curve` refuses.

    Example:
        >>> point = tar_at_far([0.1, 0.2, 0.3, 0.7, 0.6, 0.9], [0, 0, 0, 0, 1, 1], far=0.25)
        >>> point.tar, point.far, point.threshold, point.false_accepts
        (1.0, 0.25, 0.6, 1)

    Reference: ISO/IEC 19795-1:2021, biometric performance testing and reporting.

    See also `tar_at_far_of`, for several figures of one curve, and `qmargin.metrics.eer`.
    """
    return tar_at_far_of(det_curve(scores, labels), far, rule)


def tar_at_far_of(det: DetCurve, far: float, rule: Rule = "conservative") -> TarAtFar:
    """As `tar_at_far`, on a curve that is sorted already.

    "nearest" is the ROC point whose FAR is nearest to `far`, above or below it, among the points that
    `sklearn.metrics.roc_curve` keeps (`drop_intermediate=True`: points in the middle of a straight run of equal steps
    are not candidates, +inf is one). Ties: of two equally near FARs the higher, of equal FARs the lowest threshold,
    that is the highest TAR; this is argmin |fpr - far| over the flipped arrays, the common reading of IJB-B/IJB-C.

    Args:
        det: the curve; one from a bootstrap resample (`det.resampled`) is not refused for too few impostors.
        far: in (0, 1].
        rule: "conservative" or "nearest".

    Returns:
        The operating point.

    Raises:
        ValueError: as `tar_at_far`.

    Example:
        >>> det = det_curve([0.1, 0.4, 0.6, 0.8, 0.5, 0.7, 0.9], [0, 0, 0, 0, 1, 1, 1])
        >>> tar_at_far_of(det, 0.4).far, tar_at_far_of(det, 0.4, "nearest").far
        (0.25, 0.5)

    See also `tar_at_far`.
    """
    if rule not in get_args(Rule):
        close = get_close_matches(str(rule), get_args(Rule), n=1, cutoff=0.0)
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}; did you mean {close[0]!r}?")
    check_far(far, math.inf if det.resampled else det.impostor)
    point = _nearest(det, far) if rule == "nearest" else _conservative(det, far)
    realised = float(det.far[point])
    return TarAtFar(
        tar=1.0 - float(det.frr[point]),
        far_target=float(far),
        far=realised,
        threshold=float(det.thresholds[point]),
        false_accepts=round(realised * det.impostor),
        impostors=det.impostor,
        rule=rule,
    )


def check_far(far: float, impostors: float) -> None:
    """Refuse a FAR that a list cannot show, whatever its scores.

    Args:
        far: as asked.
        impostors: trials of the list; infinity where any share is good.

    Raises:
        ValueError: it is no share, or below 1 / impostors.
    """
    if not 0.0 < far <= 1.0:
        raise ValueError(f"far must be a share in (0, 1], got {far}; 0.1 % is 1e-3")
    if far < 1.0 / impostors:
        raise ValueError(
            f"TAR at FAR {far:g} needs at least {_impostors_needed(far)} impostor trials, got {impostors}; "
            f"the lowest FAR that this list can show is {_rounded_up(1.0 / impostors):g}"
        )


def _rounded_up(share: float) -> float:
    """A share in three digits, at least as large: what a message names can be asked for."""
    digits = 10.0 ** (2 - math.floor(math.log10(share)))
    return math.ceil(share * digits) / digits


def _impostors_needed(far: float) -> int:
    """Smallest n with 1 / n <= far; ceil(1 / far) is one too many where 1 / far rounds up, e.g. for 1 / 49."""
    ceiling = math.ceil(1.0 / far)
    return ceiling - 1 if ceiling > 1 and 1.0 / (ceiling - 1) <= far else ceiling


def _conservative(det: DetCurve, far: float) -> int:
    """First point, so lowest threshold, whose FAR is at most `far`; the last point has FAR 0."""
    return bisect_left(range(det.far.size), True, key=lambda point: bool(det.far[point] <= far))


def _nearest(det: DetCurve, far: float) -> int:
    """Point of the thinned ROC with the nearest FAR; the first minimum is the lowest threshold."""
    candidate = np.ones(det.far.size, dtype=bool)
    bends = _bends(det.far[:-1], det.impostor)  # +inf is added after the thinning, and the two ends always stay
    bends |= _bends(det.frr[:-1], det.genuine)
    candidate[1:-2] = bends
    points = np.flatnonzero(candidate)
    return int(points[np.abs(det.far[points] - far).argmin()])


def _bends(rates: Floats, total: float) -> Mask:
    """Inner points whose step before differs from the step after, in trials: (points,) -> (points - 2,)."""
    counts = rates * total
    if isinstance(total, int):
        np.rint(counts, out=counts)
    steps = np.diff(counts)
    bends: Mask = steps[1:] != steps[:-1]
    return bends
