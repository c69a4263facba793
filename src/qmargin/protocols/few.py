"""The rule of 30: which figures rest on so few false accepts that the figure itself says little.

Below 30 errors a rate is known to worse than about 30 % either way, with 90 % confidence (Doddington 1998).
"""

from collections.abc import Mapping

import numpy as np

from qmargin.metrics import DetCurve, eer_of, min_dcf_threshold_of

FEW_FALSE_ACCEPTS = 30


def few_false_accepts(counts: Mapping[str, float]) -> tuple[str, ...]:
    """A sentence for each figure, given by name, that rests on fewer than 30 false accepts.

    Example:
        >>> few_false_accepts({"TAR@FAR=1e-02": 120, "TAR@FAR=1e-03": 12})
        ('TAR@FAR=1e-03 rests on 12 false accepts, fewer than 30',)
    """
    return tuple(
        f"{name} rests on {count:g} false accepts, fewer than {FEW_FALSE_ACCEPTS}"
        for name, count in counts.items()
        if count < FEW_FALSE_ACCEPTS
    )


def eer_false_accepts(det: DetCurve) -> int:
    """Impostor trials that the EER stands for: that share of them."""
    return round(eer_of(det) * det.impostor)


def min_dcf_false_accepts(det: DetCurve, prior: float) -> int:
    """Impostor trials accepted at the threshold of minDCF."""
    return round(float(det.far[min_dcf_point(det, prior)]) * det.impostor)


def min_dcf_point(det: DetCurve, prior: float) -> int:
    """Point of the curve at whose threshold the cost is least."""
    return int(np.searchsorted(det.thresholds, min_dcf_threshold_of(det, prior)))
