"""From resampled values to an interval: by their quantiles, or by their variance in Wilson's formula.

Conventions:
    "percentile": the quantiles (linear) of the resamples. For any figure; too narrow for a single figure near 0 or 1.
    "wilson": for a figure p in [0, 1], an error rate or a normalised cost. The variance v of the resamples says how
    many independent trials would know p as well, n = p (1 - p) / v; Wilson's interval for p of n trials is taken. Where
    errors are few, v itself is known badly, and low where p is low. So it is scaled up to what it would be with half an
    error more in each direction among the N subjects, p' = (N p + 1/2) / (N + 1), at most fourfold:
    n = p (1 - p) / (v max(1, p' (1 - p') / (p (1 - p)))). At p = 0 or 1 the resamples say nothing: n is at most N.
"""

import math
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np

from qmargin.metrics._validate import Floats

Method = Literal["percentile", "wilson"]
MOST_SCALED = 4.0


def check_method(method: str) -> None:
    """A ValueError for an unknown method."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")


def percentiles(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper end (statistics,) of the central `confidence` of values (statistics, resamples)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return low, high


def wilson(estimate: float, values: Floats, subjects: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval for a figure in [0, 1], from its resampled values (resamples,); see the module's conventions.

    Raises:
        ValueError: the figure, or a resample of it, is outside [0, 1].
    """
    if not 0.0 <= min(estimate, values.min()) <= max(estimate, values.max()) <= 1.0:
        raise ValueError(
            f"Wilson's interval is for figures in [0, 1], got {estimate:g} with resamples from {values.min():g} to "
            f"{values.max():g}; use method='percentile'"
        )
    size = _effective_size(estimate, float(values.var(ddof=1)), subjects)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    centre = (estimate + z * z / (2.0 * size)) / (1.0 + z * z / size)
    half = z / (1.0 + z * z / size) * math.sqrt(estimate * (1.0 - estimate) / size + (z / (2.0 * size)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)


def _effective_size(estimate: float, variance: float, subjects: int) -> float:
    """Number of independent trials that would know the figure as well."""
    shrunk = (subjects * estimate + 0.5) / (subjects + 1.0)
    at_shrunk = shrunk * (1.0 - shrunk)
    spread = max(estimate * (1.0 - estimate), at_shrunk / MOST_SCALED)
    scaled = variance * max(1.0, at_shrunk / spread)
    most = float(subjects) if estimate in (0.0, 1.0) or variance == 0.0 else math.inf
    return min(most, spread / scaled) if scaled > 0.0 else most
