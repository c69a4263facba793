"""Whom a list of pairs shows: the subjects that the bootstrap draws, where a list names templates or images only.

Conventions:
    A genuine pair says that its two sides are one subject; 1:N lists, where there are any, say whose a template is.
    Sides are joined by both, however far the chain goes. A side that neither names stands for itself, as a subject of
    its own, and is counted: intervals are somewhat too narrow where many such are in truth one person.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1  # subject of a side that no list names

Sides = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Units:
    """What is resampled."""

    sides: NDArray[np.int32]  # (pairs, 2) unit on each side, numbered
    text: str  # what they are and how many, for reports


def units_of(
    first: Sides, second: Sides, same: NDArray[np.bool_], count: int, what: str, known: NDArray[np.int64] | None = None
) -> Units:
    """Join the sides of a list of pairs into subjects.

    Args:
        first: (pairs,) place of one side, 0..count - 1.
        second: (pairs,) place of the other.
        same: (pairs,) True = one subject.
        count: number of places.
        what: what a place is, in the plural: "templates", "images".
        known: (count,) subject id of each place, `UNKNOWN` where none is; None where there are no such lists.

    Returns:
        The units.

    Raises:
        ValueError: a pair of two subjects that genuine pairs or lists join, or a chain of genuine pairs between two
            subjects of the lists; the first such pair or subject is named.

    Example:
        >>> pairs = np.array([(0, 1), (1, 2), (0, 3), (4, 2)])
        >>> found = units_of(*pairs.T, np.array([True, True, False, False]), 5, "images")
        >>> found.sides.tolist(), found.text
        ([[0, 0], [0, 0], [0, 1], [2, 0]], '3 subjects: images joined by genuine pairs, 2 in none of them one each')
    """
    links = [np.stack([first[same], second[same]])]
    named = np.zeros(count, dtype=bool)
    if known is not None:
        named = known != UNKNOWN
        places = np.flatnonzero(named)
        _, leader, member = np.unique(known[places], return_index=True, return_inverse=True)
        links.append(np.stack([places, places[leader][member]]))
    edges = np.concatenate(links, axis=1)
    label = _joined(count, edges[0], edges[1])
    if known is not None:
        _check_known(known, named, label)
    _check_pairs(first, second, same, label, what)
    named[first[same]] = named[second[same]] = True
    used = np.zeros(count, dtype=bool)
    used[first] = used[second] = True
    number = np.cumsum(np.bincount(label[used], minlength=count) > 0, dtype=np.int32) - np.int32(1)
    sides = np.stack([number[label[first]], number[label[second]]], axis=1)
    alone = int(np.count_nonzero(used & ~named))
    by = "genuine pairs" if known is None else "the 1:N lists and genuine pairs"
    text = f"{number[-1] + 1:,} subjects: {what} joined by {by}"
    if alone:
        text += f", {alone:,} in none of them one each"
    return Units(sides, text)


def _joined(count: int, first: Sides, second: Sides) -> NDArray[np.int64]:
    """Lowest place of the component of each place, by pointer jumping."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[first], label[second])
        joined = label.copy()
        for ends in (first, second, label[first], label[second]):
            np.minimum.at(joined, ends, low)
        joined = joined[joined]
        if np.array_equal(joined, label):
            return label
        label = joined


def _check_known(known: NDArray[np.int64], named: NDArray[np.bool_], label: NDArray[np.int64]) -> None:
    subject = np.full(label.size, UNKNOWN, dtype=np.int64)
    subject[label[named]] = known[named]  # of each component, one of those the lists name
    wrong = named & (subject[label] != known)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"genuine pairs join subjects {known[place]} and {subject[label[place]]} of the 1:N lists: are the lists "
            "of one set? Without intervals (--resamples 0) this does not matter"
        )


def _check_pairs(first: Sides, second: Sides, same: NDArray[np.bool_], label: NDArray[np.int64], what: str) -> None:
    wrong = ~same & (label[first] == label[second])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"pair {row + 1} is labelled as two subjects, but other pairs or lists join its {what} "
            f"{first[row]} and {second[row]} (numbered from 0) into one ({np.count_nonzero(wrong)} such pairs): labels "
            "contradict each other, and subjects cannot be resampled; correct them, or give --resamples 0"
        )
