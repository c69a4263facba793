"""The curve: hand-computed points, scikit-learn, and the laws that every figure inherits."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import det_curve as sklearn_det
from sklearn.metrics import roc_curve

from qmargin.metrics import DetCurve, det_curve
from qmargin.metrics._validate import Floats, Mask

# (score in eighths, genuine, weight): few distinct scores, so ties everywhere
Trials = list[tuple[int, bool, int]]
trials = st.lists(st.tuples(st.integers(-9, 9), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40).filter(
    lambda rows: {label for _, label, weight in rows if weight} == {True, False}
)


def columns(rows: Trials) -> tuple[Floats, Mask, NDArray[np.int64]]:
    scores, labels, weights = zip(*rows, strict=True)
    return np.array(scores) / 8.0, np.array(labels), np.array(weights)


def random_trials(seed: int, decimals: int | None) -> tuple[Floats, Mask]:
    generator = np.random.default_rng(seed)
    labels = generator.random(300) < 0.3
    scores = generator.normal(size=300) + labels
    return (scores if decimals is None else scores.round(decimals)), labels


def same(one: DetCurve, other: DetCurve) -> bool:
    arrays = all(np.array_equal(getattr(one, field), getattr(other, field)) for field in ("thresholds", "far", "frr"))
    return arrays and (one.genuine, one.impostor) == (other.genuine, other.impostor)


def test_hand_computed_points() -> None:
    # impostors 1 2 2 4, genuine 2 3 5 (unsorted below)
    # t=1: all accepted; t=2: impostors 2 2 4 = 3/4, genuine all; t=3: impostor 4 = 1/4, missed 2 = 1/3;
    # t=4: 1/4, missed 2 3 = 2/3; t=5: 0, 2/3; inf: 0, 1
    det = det_curve([4, 5, 2, 3, 1, 2, 2], [0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(det.thresholds, [1, 2, 3, 4, 5, np.inf])
    np.testing.assert_array_equal(det.far, [1, 3 / 4, 1 / 4, 1 / 4, 0, 0])
    np.testing.assert_array_equal(det.frr, [0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert (det.genuine, det.impostor, det.resampled) == (3, 4, False)


def test_hand_computed_weights() -> None:
    # genuine 2 (weight 1) and 3 (3); impostors 1 (0.5) and 3 (1.5), and 9 with weight 0, which is no point
    det = det_curve([2, 3, 1, 3, 9], [1, 1, 0, 0, 0], [1, 3, 0.5, 1.5, 0])
    np.testing.assert_array_equal(det.thresholds, [1, 2, 3, np.inf])
    np.testing.assert_array_equal(det.far, [1, 0.75, 0.75, 0])
    np.testing.assert_array_equal(det.frr, [0, 0, 0.25, 1])
    assert (det.genuine, det.impostor) == (4.0, 2.0)


def test_collapsed_scores_are_two_points() -> None:
    det = det_curve(np.full(7, 0.3), [0, 1, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(det.far, [1, 0])
    np.testing.assert_array_equal(det.frr, [0, 1])


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_scikit_learn(seed: int, decimals: int | None) -> None:
    scores, labels = random_trials(seed, decimals)
    det = det_curve(scores, labels)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_array_equal(det.thresholds, thresholds[::-1])
    np.testing.assert_array_equal(det.far, fpr[::-1])
    np.testing.assert_allclose(1.0 - det.frr, tpr[::-1], atol=1e-15)
    far, frr, cut = sklearn_det(labels, scores)  # without the flat ends
    start = int(np.flatnonzero(det.thresholds == cut[0])[0])
    inner = slice(start, start + cut.size)
    np.testing.assert_array_equal(det.thresholds[inner], cut)
    np.testing.assert_array_equal(det.far[inner], far)
    np.testing.assert_array_equal(det.frr[inner], frr)


def test_weights_equal_scikit_learn() -> None:
    scores, labels = random_trials(3, 1)
    weights = np.random.default_rng(4).random(300)
    det = det_curve(scores, labels, weights)
    fpr, tpr, thresholds = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_array_equal(det.thresholds, thresholds[::-1])
    np.testing.assert_allclose(det.far, fpr[::-1], atol=1e-14)
    np.testing.assert_allclose(1.0 - det.frr, tpr[::-1], atol=1e-14)


@given(trials)
def test_specification(rows: Trials) -> None:
    scores, labels, weights = columns(rows)
    det = det_curve(scores, labels, weights)
    for threshold, far, frr in zip(det.thresholds, det.far, det.frr, strict=True):
        accepted = scores >= threshold
        assert far == weights[~labels & accepted].sum() / weights[~labels].sum()
        assert frr == weights[labels & ~accepted].sum() / weights[labels].sum()
    np.testing.assert_array_equal(det.thresholds[:-1], np.unique(scores[weights > 0]))
    assert det.thresholds[-1] == np.inf


@given(trials)
def test_rates_are_monotone_from_one_end_to_the_other(rows: Trials) -> None:
    det = det_curve(*columns(rows))
    assert (np.diff(det.far) <= 0).all()
    assert (np.diff(det.frr) >= 0).all()
    assert (np.diff(det.thresholds) > 0).all()
    assert (det.far[0], det.frr[0], det.far[-1], det.frr[-1]) == (1, 0, 0, 1)


@given(trials)
def test_integer_weights_are_repetitions(rows: Trials) -> None:
    scores, labels, weights = columns(rows)
    repeated = det_curve(scores.repeat(weights), labels.repeat(weights))
    assert same(det_curve(scores, labels, weights), repeated)
    assert same(det_curve(scores, labels, weights.astype(float)), repeated)


@given(trials, st.randoms(use_true_random=False))
def test_order_never_matters(rows: Trials, random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert same(det_curve(*columns(rows)), det_curve(*columns(shuffled)))
    (one, one_labels, _), (other, other_labels, _) = columns(rows), columns(shuffled)
    assert same(det_curve(one, one_labels), det_curve(other, other_labels))


@given(trials)
def test_rising_transforms_move_only_the_thresholds(rows: Trials) -> None:
    scores, labels, weights = columns(rows)
    plain, bent = det_curve(scores, labels, weights), det_curve(np.exp(scores) + scores, labels, weights)
    np.testing.assert_array_equal(plain.far, bent.far)
    np.testing.assert_array_equal(plain.frr, bent.frr)


@given(trials)
def test_negated_scores_with_swapped_labels_swap_the_rates(rows: Trials) -> None:
    scores, labels, weights = columns(rows)
    plain, turned = det_curve(scores, labels, weights), det_curve(-scores, ~labels, weights)
    np.testing.assert_allclose(plain.far, turned.frr[::-1], atol=1e-15)
    np.testing.assert_allclose(plain.frr, turned.far[::-1], atol=1e-15)


def test_negative_zero_is_zero() -> None:
    assert det_curve([-0.0, 0.0, 1.0], [0, 1, 1]).thresholds.size == 3


def test_float32_scores_keep_their_own_ties() -> None:
    # 0.1 and 0.1 + 1e-9 are one float32: one point, and its threshold accepts the float32 score
    scores = np.array([0.1, 0.1 + 1e-9, 0.2], np.float32)
    det = det_curve(scores, [0, 1, 1])
    assert det.thresholds.size == 3
    assert det.thresholds[0] == np.float64(scores[0])
