"""What counts as trials: the one place where scores, labels and weights are refused, always with a ValueError.

Scores are finite real numbers (float16/32/64 are kept as they are, anything else becomes float64); labels are bool or
integer 0/1, never floats, because a swapped pair of arguments would otherwise go unnoticed.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64] | NDArray[np.float64]


def check_labels(labels: ArrayLike) -> Mask:
    """Return the genuine trials as a mask (trials,), both classes present; a ValueError names the first bad label."""
    given = np.asarray(labels)
    if given.ndim != 1:
        raise ValueError(f"labels must have shape (trials,), one for each score, got {given.shape}; flatten them first")
    if given.size == 0:
        raise ValueError("labels must hold genuine and impostor trials, got none; is the trial list empty?")
    if given.dtype.kind not in "biu":
        raise ValueError(
            f"labels must be booleans or the integers 0 (impostor) and 1 (genuine), got dtype {given.dtype}; "
            "were scores and labels swapped?"
        )
    genuine: Mask = given == 1
    if (bad := ~genuine & (given != 0)).any():
        first = int(bad.argmax())
        raise ValueError(
            f"labels must be 0 (impostor) or 1 (genuine), got {given[first]} at trial {first}; "
            "map them first, e.g. `labels > 0` for labels -1 and 1"
        )
    count = int(np.count_nonzero(genuine))
    if count in (0, given.size):
        raise ValueError(
            f"labels must hold both classes, got {count} genuine and {given.size - count} impostor trials; "
            "an error rate of an absent class does not exist: was the list filtered or cut?"
        )
    return genuine


def check_scores(scores: ArrayLike, trials: int, name: str = "scores") -> Scores:
    """Return the scores (trials,) as floats, or raise a ValueError that calls them `name` and names the first trial."""
    given = np.asarray(scores)
    if given.shape != (trials,):
        raise ValueError(
            f"{name} must have shape ({trials},), one for each label, got {given.shape}; "
            "score every trial of the list, in its order"
        )
    if given.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be real numbers, higher meaning more alike, got dtype {given.dtype}")
    floats: Scores = given if given.dtype in (np.float16, np.float32, np.float64) else given.astype(np.float64)
    finite = np.isfinite(floats)
    if not finite.all():
        _refuse(floats, finite, name)
    return floats


def _refuse(scores: Scores, finite: Mask, name: str) -> None:
    nan = np.isnan(scores)
    bad, ways_out = (
        (nan, "the embedding behind it is broken (empty input, norm 0, diverged training): find it, or drop the trial")
        if nan.any()
        else (~finite, "to rank a trial below or above all others, give it a finite score that does so")
    )
    first = int(bad.argmax())
    raise ValueError(
        f"{name} must be finite, but trial {first} is {scores[first]} ({np.count_nonzero(bad)} of {scores.size} trials "
        f"are such); {ways_out}"
    )


def check_weights(weights: ArrayLike, genuine: Mask) -> Numbers:
    """Return weights (trials,) >= 0 as int64 or float64, both classes with a positive total, or raise a ValueError."""
    given = np.asarray(weights)
    if given.shape != genuine.shape:
        raise ValueError(f"weights must have shape {genuine.shape}, one for each trial, got {given.shape}")
    if given.dtype.kind not in "fiub":
        raise ValueError(f"weights must be real numbers, got dtype {given.dtype}")
    numbers: Numbers = given.astype(np.float64) if given.dtype.kind == "f" else given.astype(np.int64)
    bad = ~((numbers >= 0) & np.isfinite(numbers))
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"weights must be finite and >= 0, got {numbers[first]} at trial {first}; a weight of 0 leaves a trial out"
        )
    genuine_total, impostor_total = numbers[genuine].sum(), numbers[~genuine].sum()
    if genuine_total == 0 or impostor_total == 0:
        raise ValueError(
            f"weights must leave something of both classes, got a total of {genuine_total} genuine and "
            f"{impostor_total} impostor"
        )
    return numbers
