"""The worst errors of a list: the right ones, in a fixed order, judged at a named FAR."""

import numpy as np
import pytest

from qmargin.metrics import tar_at_far
from qmargin.protocols.worst import worst_errors

NAMES = np.array([f"u{k}" for k in range(400)])
SUBJECTS = np.array([f"s{k // 2}" for k in range(400)])


def listed(trials: int, seed: int, decimals: int) -> tuple[np.ndarray, ...]:  # type: ignore[type-arg] # of several kinds
    generator = np.random.default_rng(seed)
    labels = generator.random(trials) < 0.4
    sides = generator.integers(400, size=(2, trials))
    return (generator.normal(size=trials) + labels).round(decimals).astype(np.float32), labels, sides[0], sides[1]


@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize("count", [1, 7, 200, 5000])
def test_they_are_the_first_of_a_full_stable_sort(decimals: int, count: int) -> None:
    scores, labels, *sides = listed(1000, 3, decimals)
    found = worst_errors(scores, labels, (sides[0], sides[1]), NAMES, SUBJECTS, count=count, far=0.01)
    order = np.argsort(scores, kind="stable")
    backwards = np.argsort(-scores, kind="stable")
    assert [pair.trial for pair in found.genuine] == [k for k in order if labels[k]][:count]
    assert [pair.trial for pair in found.impostors] == [k for k in backwards if not labels[k]][:count]


def test_each_pair_carries_its_own_names_and_its_decision() -> None:
    scores, labels, *sides = listed(1000, 4, 3)
    found = worst_errors(scores, labels, (sides[0], sides[1]), NAMES, SUBJECTS, count=40, far=0.05)
    threshold = tar_at_far(scores, labels, 0.05).threshold
    assert (found.threshold, found.far) == (threshold, 0.05)
    for pair in (*found.impostors, *found.genuine):
        first, second = sides[0][pair.trial], sides[1][pair.trial]
        assert (pair.first, pair.second) == (NAMES[first], NAMES[second])
        assert (pair.first_subject, pair.second_subject) == (SUBJECTS[first], SUBJECTS[second])
        assert pair.score == scores[pair.trial]
        assert pair.is_error == ((pair.score >= threshold) != labels[pair.trial])
    assert {pair.is_error for pair in found.impostors} == {True, False}  # 5 % of 600 accepted, 40 shown of each


def test_a_list_that_cannot_show_the_far_and_a_count_of_none_are_refused() -> None:
    scores, labels, *sides = listed(50, 5, 3)
    both = (sides[0], sides[1])
    with pytest.raises(ValueError, match=r"TAR at FAR 0\.0001 needs at least 10000 impostor trials"):
        worst_errors(scores, labels, both, NAMES, SUBJECTS, count=3, far=1e-4)
    with pytest.raises(ValueError, match="the number of worst errors must be at least 1, got 0"):
        worst_errors(scores, labels, both, NAMES, SUBJECTS, count=0, far=0.1)
