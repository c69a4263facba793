"""From resampled values to an interval: by their quantiles, or by their variance in Wilson's formula.

Conventions:
    "percentile": the quantiles (linear) of the resamples. For any figure; too narrow for a single figure near 0 or 1,
    too wide where the luck of few pairs decides.
    The variance of a figure: let r_ij be what the impostor trials of subjects i and j add to it. Weights w_i w_j make
    it vary by sum_i (sum_j r_ij)^2 + sum_ij r_ij^2, where the truth is sum_i (sum_j r_ij)^2 - sum_ij r_ij^2: what is a
    pair's own counts once, not for each of its ends and for their product too. Resamples of pairs (`_subjects.py`) vary
    by u = sum_ij r_ij^2; so v is the variance of the resamples of subjects less 2 u, and at least u. Figures that are a
    least or best value over thresholds read too well on the trials as on the resamples: with b, the mean of the
    resamples less the estimate, (2 b)^2 is added to v; of a difference at most v / 2: where a handful of errors sets a
    threshold, b is luck more than bias.
    Where errors are few, v is known badly, and low where the figure p is low. So it is scaled up by k to what it would
    be with half an error more in each direction among the N subjects, p' = (N p + 1/2) / (N + 1), at most twofold:
    k = min(2, max(1, p' (1 - p') / (p (1 - p)))).
    "wilson": for a figure p in [0, 1], an error rate or a normalised cost. k v says how many independent trials would
    know p as well, n = p (1 - p) / (k v); Wilson's interval for p of n trials is taken. At p = 0 or 1 the resamples say
    nothing: there p (1 - p) is read as p' (1 - p') / 2, and n is at most N.
    "t", for differences of two systems: the difference plus and minus Student's t on N - 1 degrees of freedom times
    sqrt(v sqrt(k)), k the larger one of the two systems.
    The 2 of (2 b), the half, the twofold and the root were chosen by simulation (`benchmarks/interval_coverage.py`).
"""

import math
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np

from qmargin.metrics._validate import Floats

Method = Literal["wilson", "percentile"]
DifferenceMethod = Literal["t", "percentile"]
MOST_SCALED = 2.0
BIAS, MOST_BIAS = 2.0, 0.5


def check_method(method: str, known: tuple[str, ...] = get_args(Method)) -> None:
    """A ValueError for a method that is not among the `known` ones."""
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")


def interval(
    method: Method, estimates: Floats, values: Floats, of_pairs: Floats, subjects: int, confidence: float
) -> tuple[Floats, Floats]:
    """Lower and upper ends (figures,) by a method, from estimates (figures,) and values (figures, resamples)."""
    if method == "percentile":
        return percentiles(values, confidence)
    check_shares(estimates, values)
    known = variance(values, of_pairs) + bias_square(estimates, values)
    return wilson(estimates, known, subjects, confidence)


def difference_interval(
    method: DifferenceMethod, estimates: Floats, values: Floats, of_pairs: Floats, subjects: int, confidence: float
) -> tuple[Floats, Floats]:
    """Ends (figures,) for the first of two systems less the second, from what both (2, figures, ...) have."""
    difference, differences = estimates[0] - estimates[1], values[0] - values[1]
    if method == "percentile":
        return percentiles(differences, confidence)
    known = variance(differences, of_pairs[0] - of_pairs[1])
    known = known + np.minimum(bias_square(difference, differences), MOST_BIAS * known)
    scales = np.sqrt(_scales(estimates, subjects)[1].max(axis=0))
    return student(difference, known * scales, subjects, confidence)


def percentiles(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper end (figures,) of the central `confidence` of values (figures, resamples)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return low, high


def variance(values: Floats, of_pairs: Floats) -> Floats:
    """Variance v (figures,) of figures, from resamples of subjects and of pairs, each (figures, resamples)."""
    pairs = of_pairs.var(axis=1, ddof=1)
    found: Floats = np.maximum(values.var(axis=1, ddof=1) - 2.0 * pairs, pairs)
    return found


def bias_square(estimates: Floats, values: Floats) -> Floats:
    """(2 b)^2 (figures,), of estimates (figures,) and resamples (figures, resamples)."""
    found: Floats = (BIAS * (values.mean(axis=1) - estimates)) ** 2
    return found


def wilson(estimates: Floats, variances: Floats, subjects: int, confidence: float) -> tuple[Floats, Floats]:
    """Wilson's interval (figures,), (figures,) for figures in [0, 1] of these variances."""
    size = _effective_sizes(estimates, variances, subjects)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    centre = (estimates + z * z / (2.0 * size)) / (1.0 + z * z / size)
    half = z / (1.0 + z * z / size) * np.sqrt(estimates * (1.0 - estimates) / size + (z / (2.0 * size)) ** 2)
    low, high = np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)
    return np.minimum(low, estimates), np.maximum(high, estimates)  # at 0 and 1 rounding may part them


def student(estimates: Floats, variances: Floats, subjects: int, confidence: float) -> tuple[Floats, Floats]:
    """Estimates plus and minus Student's t on `subjects` - 1 degrees of freedom times the deviation, (figures,)."""
    half = student_quantile(0.5 + confidence / 2.0, subjects - 1) * np.sqrt(variances)
    return estimates - half, estimates + half


def student_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t with `freedom` >= 1 degrees: exact for 1 and 2, else by Fisher's series (to 1 % at 3).

    Example:
        >>> round(student_quantile(0.975, 39), 4), round(student_quantile(0.975, 2), 4)
        (2.0227, 4.3027)
    """
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2.0 * share - 1.0) / math.sqrt(2.0 * share * (1.0 - share))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    powers = [freedom * 1.0, freedom**2.0, freedom**3.0, freedom**4.0]
    return z + math.fsum(term / power for term, power in zip(terms, powers, strict=True))


def check_shares(estimates: Floats, values: Floats) -> None:
    """A ValueError where a figure (figures,), or a resample of it (figures, resamples), is outside [0, 1]."""
    lowest = np.minimum(estimates, values.min(axis=1))
    highest = np.maximum(estimates, values.max(axis=1))
    bad = np.flatnonzero((lowest < 0.0) | (highest > 1.0))
    if bad.size:
        k = bad[0]
        raise ValueError(
            f"Wilson's interval is for figures in [0, 1], got {estimates[k]:g} with resamples from "
            f"{values[k].min():g} to {values[k].max():g}; use method='percentile'"
        )


def _scales(estimates: Floats, subjects: int) -> tuple[Floats, Floats]:
    """Spread p (1 - p), not below half of p' (1 - p'), and the scale of a variance; as `estimates`."""
    clipped = np.clip(estimates, 0.0, 1.0)  # a figure beyond is no share: nothing to scale
    shrunk = (subjects * clipped + 0.5) / (subjects + 1.0)
    at_shrunk = shrunk * (1.0 - shrunk)
    spread = np.maximum(clipped * (1.0 - clipped), at_shrunk / MOST_SCALED)
    return spread, np.where(clipped == estimates, np.maximum(1.0, at_shrunk / spread), 1.0)


def _effective_sizes(estimates: Floats, variances: Floats, subjects: int) -> Floats:
    """Numbers of independent trials that would know the figures as well, (figures,)."""
    spread, scales = _scales(estimates, subjects)
    scaled = variances * scales
    sizes: Floats = spread / np.where(scaled == 0.0, spread / subjects, scaled)  # no variance: as many as subjects
    at_end = (estimates == 0.0) | (estimates == 1.0)
    return np.where(at_end, np.minimum(sizes, subjects), sizes)
