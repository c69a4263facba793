"""Pair accuracy against slow twins, on ties, and against the folds and the grid of the public scripts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from qmargin.metrics import file_order_folds, grid_pair_accuracy, pair_accuracy

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def trials(seed: int, pairs: int = 60, decimals: int = 1) -> tuple[Floats, Mask]:
    """Cosines with many ties."""
    generator = np.random.default_rng(seed)
    labels = generator.random(pairs) < 0.5
    labels[:2] = True, False
    return np.clip(generator.normal(0.4 * labels, 0.3).round(decimals), -1, 1), labels


def slow(scores: Floats, labels: Mask, folds: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Every candidate is tried on the other folds, from the highest down; the first best one is kept."""
    found = []
    for fold in np.unique(folds):
        others, here = folds != fold, folds == fold
        candidates = [np.inf, *sorted(set(scores[others].tolist()), reverse=True)]
        best = max(candidates, key=lambda t: np.mean((scores[others] >= t) == labels[others]))
        found.append((float(np.mean((scores[here] >= best) == labels[here])), best))
    return found


def public_script(scores: Floats, labels: Mask) -> tuple[float, float]:
    """The steps of the common verification script: KFold, distances, a grid, the first best threshold."""
    distances = 2 - 2 * scores
    grid, accuracies = np.arange(0, 4, 0.01), []
    for train, test in KFold(n_splits=10, shuffle=False).split(np.arange(len(scores))):
        shares = [np.mean(np.less(distances[train], t) == labels[train]) for t in grid]
        best = grid[np.argmax(shares)]
        accuracies.append(np.mean(np.less(distances[test], best) == labels[test]))
    return float(np.mean(accuracies)), float(np.std(accuracies))


@given(st.integers(0, 10**6), st.integers(10, 80))
def test_accuracy_is_that_of_trying_every_threshold(seed: int, pairs: int) -> None:
    scores, labels = trials(seed, pairs)
    folds = file_order_folds(pairs)
    result = pair_accuracy(scores, labels)
    assert list(zip(result.per_fold.tolist(), result.thresholds.tolist(), strict=True)) == slow(scores, labels, folds)


@given(st.integers(0, 10**6), st.integers(10, 80))
def test_the_grid_is_that_of_the_public_scripts(seed: int, pairs: int) -> None:
    scores, labels = trials(seed, pairs, decimals=4)
    result = grid_pair_accuracy(scores, labels)
    assert (result.mean, result.spread) == pytest.approx(public_script(scores, labels), abs=1e-12)


@pytest.mark.parametrize("pairs", [10, 17, 6000, 7000])
def test_folds_in_file_order_are_those_of_scikit_learn(pairs: int) -> None:
    expected = np.empty(pairs, dtype=int)
    for fold, (_, test) in enumerate(KFold(n_splits=10, shuffle=False).split(np.arange(pairs))):
        expected[test] = fold
    assert file_order_folds(pairs).tolist() == expected.tolist()


def test_the_order_within_folds_does_not_matter_and_their_names_do_not() -> None:
    scores, labels = trials(1)
    folds = file_order_folds(60)
    order = np.random.default_rng(2).permutation(60)
    first, second = pair_accuracy(scores, labels), pair_accuracy(scores[order], labels[order], 7 * folds[order] + 3)
    assert first.per_fold.tolist() == second.per_fold.tolist()
    assert first.thresholds.tolist() == second.thresholds.tolist()


def test_spread_and_standard_error_have_their_own_divisors() -> None:
    scores, labels = trials(3)
    result = pair_accuracy(scores, labels)
    deviations = result.per_fold - result.mean
    assert result.mean == pytest.approx(result.per_fold.mean())
    assert result.spread == pytest.approx(np.sqrt((deviations**2).sum() / 10))
    assert result.standard_error == pytest.approx(np.sqrt((deviations**2).sum() / 9) / np.sqrt(10))


def test_separable_pairs_are_all_right_and_equal_scores_are_half_right() -> None:
    labels = np.arange(40) % 2 == 0
    assert pair_accuracy(np.where(labels, 0.9, 0.1), labels).mean == 1.0
    assert grid_pair_accuracy(np.where(labels, 0.9, 0.1), labels).mean == 1.0
    equal = pair_accuracy(np.zeros(40), labels)
    assert equal.mean == 0.5
    assert equal.thresholds.tolist() == [np.inf] * 10


def test_folds_of_one_kind_are_allowed() -> None:
    result = pair_accuracy([0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0], folds=[0, 0, 1, 1])
    assert result.thresholds.tolist() == [np.inf, 0.8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [0, 1]), r"10 folds need at least 2 folds and as many pairs as folds, got 2 pairs"),
        (([0.1, 0.2], [0, 1], [0, 0]), r"folds must be at least two, got one"),
        (([0.1, 0.2], [0, 1], [0.0, 1.0]), r"folds must be integers of shape \(2,\), got float64 \(2,\)"),
        (([0.1, 0.2], [0, 1], [0]), r"folds must be integers of shape \(2,\), got int64 \(1,\)"),
        (([0.1, 0.2], [1, 1], [0, 1]), r"labels must hold both classes"),
        (([0.1, np.nan], [0, 1], [0, 1]), r"scores must be finite"),
    ],
)
def test_what_has_no_accuracy_is_refused(arguments: tuple[list[float], ...], message: str) -> None:
    for function in (pair_accuracy, grid_pair_accuracy):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_the_grid_refuses_what_is_no_cosine() -> None:
    with pytest.raises(ValueError, match=r"for cosines in \[-1, 1\], got a score of 3"):
        grid_pair_accuracy([3.0, 0.2], [0, 1], [0, 1])


def test_a_distance_on_the_threshold_of_the_grid_is_not_accepted() -> None:
    result = grid_pair_accuracy([0.7525, -0.5, 0.7525, 0.75], [1, 0, 1, 0], folds=[0, 0, 1, 1])  # distances 0.495, 0.5
    assert (result.per_fold[1], result.thresholds[1]) == (1.0, 0.5)
