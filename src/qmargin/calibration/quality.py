"""Quality measures of recordings as columns of a calibration: a short or faint recording makes any score less sure.

Conventions:
    A measure is one positive number an utterance: its duration in seconds, or the norm of its raw embedding. A trial
    has two sides; its columns are the natural logarithm of the smaller and of the larger of the two, so a trial and its
    mirror image get the same columns.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def quality_columns(
    name: str, measure: NDArray[np.floating], first: NDArray[np.integer], second: NDArray[np.integer]
) -> dict[str, Floats]:
    """Columns `min log NAME` and `max log NAME` of trials, (trials,) each.

    Args:
        name: of the measure, e.g. "duration".
        measure: (utterances,) > 0.
        first: (trials,) indices into `measure`.
        second: (trials,) indices into `measure`.

    Raises:
        ValueError: a measure that is not finite and > 0 (the first utterance is named).

    Example:
        >>> columns = quality_columns("duration", np.array([1.0, 4.0]), np.array([0, 1]), np.array([1, 1]))
        >>> {name: column.round(2).tolist() for name, column in columns.items()}
        {'min log duration': [0.0, 1.39], 'max log duration': [1.39, 1.39]}

    Reference: Thienpondt et al., "The IDLab VoxSRC-20 submission", ICASSP 2021 (quality measure functions).

    See also `qmargin.calibration.logistic.calibrate`.
    """
    bad = ~((measure > 0) & np.isfinite(measure))
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(f"{name} must be finite and > 0, got {measure[index]} for utterance {index}")
    logs = np.log(measure.astype(np.float64))
    one, other = logs[first], logs[second]
    return {f"min log {name}": np.minimum(one, other), f"max log {name}": np.maximum(one, other)}
