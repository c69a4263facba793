"""Both equal error rates: hand-computed crossings, a slow twin, and symmetries."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.metrics import det_curve, eer, eer_hull, eer_hull_of, eer_of
from qmargin.metrics._validate import Floats, Mask

Rows = list[tuple[int, bool]]
trials: st.SearchStrategy[Rows] = st.lists(
    st.tuples(st.integers(-9, 9), st.booleans()), min_size=2, max_size=60
).filter(lambda rows: len({label for _, label in rows}) == 2)


def columns(rows: Rows) -> tuple[Floats, Mask]:
    scores, labels = zip(*rows, strict=True)
    return np.array(scores) / 8.0, np.array(labels)


def test_rates_that_meet() -> None:
    # impostors 1 2 3 5, genuine 4 6 7 8: at t=5 FAR 1/4 (5), FRR 1/4 (4)
    assert eer([1, 2, 3, 5, 4, 6, 7, 8], [0, 0, 0, 0, 1, 1, 1, 1]) == 0.25


def test_rates_that_cross_without_meeting() -> None:
    # impostors 1 3 4 5, genuine 2 6 8: t=5: FAR 1/4, FRR 1/3, apart by 1/12; t=4: FAR 2/4, FRR 1/3, apart by 2/12
    assert eer([1, 3, 4, 5, 2, 6, 8], [0, 0, 0, 0, 1, 1, 1]) == pytest.approx((1 / 4 + 1 / 3) / 2)


def test_two_points_equally_near_are_averaged() -> None:
    # impostors 0*7 2*3, genuine 1 2 3*8: t=2: (0.3, 0.1) apart by 0.2; t=3: (0, 0.2) apart by 0.2
    # in floats 0.3 - 0.1 is not 0.2; the mean of the two points is (0.2 + 0.1) / 2
    assert eer([0] * 7 + [2] * 3 + [1, 2] + [3] * 8, [0] * 10 + [1] * 10) == pytest.approx(0.15)


@pytest.mark.parametrize("figure", [eer, eer_hull])
@pytest.mark.parametrize("labels", [[0, 1], [1, 0, 0, 0], [1, 1, 1, 0, 1]])
def test_collapsed_scores_give_one_half(figure: type, labels: list[int]) -> None:
    assert figure(np.full(len(labels), 0.7), labels) == 0.5


@pytest.mark.parametrize("figure", [eer, eer_hull])
def test_perfect_separation_gives_zero(figure: type) -> None:
    assert figure([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]) == 0.0


def test_wrong_sign() -> None:
    # genuine all below impostors: the step function crosses at FAR 1, FRR 1; the hull throws the scores away
    assert eer([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1]) == 1.0
    assert eer_hull([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1]) == 0.5


def test_hand_computed_hull() -> None:
    # impostors 1 2 3 7, genuine 6 9: corners (FAR, FRR) (1/4, 0) at 6 and (0, 1/2) at 9; (1/4, 1/2) at 7 lies above.
    # The edge FAR = 1/4 - u/4, FRR = u/2 meets FAR = FRR at u = 1/3: 1/6
    assert eer_hull([1, 2, 3, 7, 6, 9], [0, 0, 0, 0, 1, 1]) == pytest.approx(1 / 6)
    assert eer([1, 2, 3, 7, 6, 9], [0, 0, 0, 0, 1, 1]) == 0.25 / 2 + 0.25 / 2  # t=6 and t=7: apart by 1/4, both


def test_the_order_of_tied_trials_never_matters() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(500) < 0.3
    scores = (generator.normal(size=500) + labels).round(0)
    orders = [np.argsort(labels, kind="stable"), np.argsort(~labels, kind="stable"), generator.permutation(500)]
    assert len({eer(scores[order], labels[order]) for order in orders}) == 1
    assert len({eer_hull(scores[order], labels[order]) for order in orders}) == 1


@given(trials)
def test_step_definition(rows: Rows) -> None:
    det = det_curve(*columns(rows))
    apart = np.abs(det.far - det.frr)
    nearest = np.isclose(apart, apart.min(), rtol=0, atol=1e-12)
    assert eer_of(det) == pytest.approx(((det.far + det.frr) / 2)[nearest].mean(), abs=1e-12)


@given(trials)
def test_hull_is_the_worst_prior_of_the_best_threshold(rows: Rows) -> None:
    # the maximum over p of a concave, piecewise linear function: on a grid it is below, by at most the grid's step
    det = det_curve(*columns(rows))
    prior = np.linspace(0, 1, 2001)[:, None]
    risk = (prior * det.frr + (1 - prior) * det.far).min(axis=1).max()
    assert risk - 1e-12 <= eer_hull_of(det) <= risk + 1 / 2000


@given(trials)
def test_negated_scores_with_swapped_labels_give_the_same(rows: Rows) -> None:
    scores, labels = columns(rows)
    assert eer(scores, labels) == pytest.approx(eer(-scores, ~labels), abs=1e-12)
    assert eer_hull(scores, labels) == pytest.approx(eer_hull(-scores, ~labels), abs=1e-12)


@given(trials)
def test_negated_scores_give_the_complement(rows: Rows) -> None:
    # FAR of -s at -t is the share of impostors with s <= t: 1 - FAR(s) at the next point, so the points mirror
    scores, labels = columns(rows)
    assert eer(scores, labels) == pytest.approx(1.0 - eer(-scores, labels), abs=1e-12)


@given(trials)
def test_rising_transforms_change_nothing(rows: Rows) -> None:
    scores, labels = columns(rows)
    assert eer(scores, labels) == eer(np.exp(scores), labels)
    assert eer_hull(scores, labels) == eer_hull(np.exp(scores), labels)


def test_hull_of_a_long_list_equals_the_whole_hull() -> None:
    generator = np.random.default_rng(5)
    labels = generator.random(20_000) < 0.1
    scores = generator.normal(size=20_000) + 2 * labels
    det = det_curve(scores, labels)
    corners: list[tuple[float, float]] = []  # lower hull by monotone chain, from (0, 1) to (1, 0)
    for point in zip(det.far[::-1], det.frr[::-1], strict=True):
        while len(corners) > 1 and _turns_right(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    (x0, y0), (x1, y1) = next((a, b) for a, b in itertools.pairwise(corners) if a[0] <= a[1] and b[0] >= b[1])
    share = (y0 - x0) / ((y0 - x0) - (y1 - x1))
    assert eer_hull_of(det) == pytest.approx(x0 + share * (x1 - x0), abs=1e-14)


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0
