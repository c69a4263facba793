"""The worst errors of a scored list: the impostor pairs that score highest, the genuine pairs that score lowest.

Half of them are, as a rule, errors of the labels: look before you blame the model.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import tar_at_far

Scores = NDArray[np.floating[Any]]
Sides = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """One trial with the names of its sides."""

    first: str
    second: str
    first_subject: str
    second_subject: str
    score: float
    is_error: bool  # on the wrong side of the threshold
    trial: int  # place in the list


@dataclass(frozen=True, kw_only=True)
class WorstErrors:
    """Both ends of a list, the worst first, and the threshold they are judged by."""

    impostors: tuple[ScoredPair, ...]
    genuine: tuple[ScoredPair, ...]
    far: float  # asked
    threshold: float  # of TAR@FAR=far on this list


def worst_errors(
    scores: Scores,
    labels: NDArray[np.bool_],
    sides: tuple[Sides, Sides],
    names: NDArray[np.str_],
    subjects: NDArray[np.str_],
    *,
    count: int,
    far: float,
) -> WorstErrors:
    """The `count` worst trials of each kind; of equal scores those that come first in the list.

    Args:
        scores: (trials,) higher = more alike.
        labels: (trials,) True = genuine.
        sides: two arrays (trials,), the item on each side.
        names: (items,) what an item is called: a path, an utterance.
        subjects: (items,) whose it is.
        count: of each kind, >= 1; of shorter lists all.
        far: whose threshold says which of them are errors.

    Returns:
        The pairs, worst first.

    Raises:
        ValueError: count < 1; a FAR that the list cannot show, or trials that `tar_at_far` refuses.

    Example:
        >>> scores, labels = np.array([0.9, 0.2, 0.8, 0.1]), np.array([True, True, False, False])
        >>> sides, names = (np.array([0, 0, 1, 2]), np.array([1, 2, 2, 3])), np.array(list("abcd"))
        >>> worst = worst_errors(scores, labels, sides, names, names, count=1, far=0.5)
        >>> [(pair.first, pair.second, pair.is_error) for pair in (*worst.impostors, *worst.genuine)]
        [('b', 'c', True), ('a', 'c', False)]

    See also `qmargin.metrics.tar_at_far`, which finds the threshold.
    """
    if count < 1:
        raise ValueError(f"the number of worst errors must be at least 1, got {count}")
    threshold = tar_at_far(scores, labels, far).threshold

    def pair(trial: int) -> ScoredPair:
        first, second = (int(side[trial]) for side in sides)
        score = float(scores[trial])
        return ScoredPair(
            first=str(names[first]),
            second=str(names[second]),
            first_subject=str(subjects[first]),
            second_subject=str(subjects[second]),
            score=score,
            is_error=(score >= threshold) != bool(labels[trial]),
            trial=trial,
        )

    highest, lowest = (_lowest(sign * scores, labels == kind, count) for sign, kind in ((-1, False), (1, True)))
    return WorstErrors(
        impostors=tuple(map(pair, highest)), genuine=tuple(map(pair, lowest)), far=far, threshold=threshold
    )


def _lowest(keys: Scores, chosen: NDArray[np.bool_], count: int) -> list[int]:
    """Places of the lowest keys among the chosen, lowest first, of equal ones the first; no sort of the whole list."""
    places = np.flatnonzero(chosen)
    values = keys[places]
    if count < len(places):
        last = np.partition(values, count - 1)[count - 1]
        below = np.flatnonzero(values < last)
        kept = np.concatenate([below, np.flatnonzero(values == last)[: count - len(below)]])
        places, values = places[kept], values[kept]
    found: list[int] = places[np.lexsort((places, values))].tolist()
    return found
