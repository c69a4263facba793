"""Subjects of a list of pairs: chains are joined, contradictions named, what nothing names is counted."""

import re

import numpy as np
import pytest

from qmargin.protocols.units import UNKNOWN, units_of


def literal(first: list[int], second: list[int], same: list[bool], count: int) -> list[frozenset[int]]:
    """Sets merged one pair at a time."""
    sets = [{place} for place in range(count)]
    for a, b, joined in zip(first, second, same, strict=True):
        if joined and sets[a] is not sets[b]:
            merged = sets[a] | sets[b]
            for place in merged:
                sets[place] = merged
    return [frozenset(one) for one in sets]


@pytest.mark.parametrize("seed", range(5))
def test_random_chains_are_joined_as_sets_are(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(60, size=(2, 40))
    sets = literal(first.tolist(), second.tolist(), [True] * 40, 60)
    apart = [(a, b) for a in range(60) for b in range(60) if sets[a] != sets[b]][::50]
    first, second = np.concatenate([np.stack([first, second]), np.array(apart).T], axis=1)
    same = np.arange(first.size) < 40
    found = units_of(first, second, same, 60, "images")
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        assert (found.sides[row, 0] == found.sides[row, 1]) == (sets[a] == sets[b])
    used = set(first.tolist()) | set(second.tolist())
    assert found.text.startswith(f"{len({sets[place] for place in used})} subjects: images joined by genuine pairs")
    assert found.sides.min() == 0
    assert len(np.unique(found.sides)) == found.sides.max() + 1


def test_a_long_chain() -> None:
    order = np.random.default_rng(0).permutation(3000)
    found = units_of(order[:-1], order[1:], np.ones(2999, dtype=bool), 3000, "templates")
    assert found.sides.max() == 0


def test_lists_join_what_no_pair_does_and_the_rest_is_counted() -> None:
    first, second, same = np.array([0, 0, 2, 3]), np.array([1, 2, 3, 4]), np.array([True, False, False, False])
    known = np.array([7, UNKNOWN, 9, UNKNOWN, 9])
    found = units_of(first, second, same, 5, "templates", known)
    assert found.sides.tolist() == [[0, 0], [0, 1], [1, 2], [2, 1]]
    assert found.text == ("3 subjects: templates joined by the 1:N lists and genuine pairs, 1 in none of them one each")


def test_contradictions_are_named() -> None:
    first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
    message = "pair 3 is labelled as two subjects, but other pairs or lists join its images 0 and 2"
    with pytest.raises(ValueError, match=re.escape(message)):
        units_of(first, second, np.array([True, True, False]), 3, "images")
    with pytest.raises(ValueError, match=r"genuine pairs join subjects 5 and 6 of the 1:N lists|subjects 6 and 5"):
        units_of(first, second, np.array([True, False, False]), 3, "images", np.array([5, 6, 8]))
