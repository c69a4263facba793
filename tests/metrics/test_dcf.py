"""Detection costs: hand-computed, normalised, and actual never below least."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.metrics import act_dcf, act_dcf_of, bayes_threshold, det_curve, min_dcf, min_dcf_of
from qmargin.metrics._validate import Floats, Mask

Rows = list[tuple[int, bool]]
trials: st.SearchStrategy[Rows] = st.lists(
    st.tuples(st.integers(-40, 40), st.booleans()), min_size=2, max_size=60
).filter(lambda rows: len({label for _, label in rows}) == 2)
priors = st.floats(0.001, 0.999)
costs = st.floats(0.1, 10.0)


def columns(rows: Rows) -> tuple[Floats, Mask]:
    scores, labels = zip(*rows, strict=True)
    return np.array(scores) / 4.0, np.array(labels)


SCORES, LABELS = [1, 2, 3, 7, 6, 9], [0, 0, 0, 0, 1, 1]
# points (FAR, FRR): t=6 (1/4, 0), t=7 (1/4, 1/2), t=9 (0, 1/2), inf (0, 1)


def test_hand_computed_min_dcf() -> None:
    # p=0.5: normaliser 0.5, DCF = FRR + FAR: t=6 gives 0.25
    assert min_dcf(SCORES, LABELS, 0.5) == 0.25
    # p=0.01: normaliser 0.01, DCF = FRR + 99 FAR: t=6 gives 24.75, t=9 gives 0.5
    assert min_dcf(SCORES, LABELS, 0.01) == 0.5
    # p=0.9: normaliser 0.1, DCF = 9 FRR + FAR: t=6 gives 0.25
    assert min_dcf(SCORES, LABELS, 0.9) == pytest.approx(0.25)
    # p=0.01, c_miss=10, c_fa=1: normaliser min(0.1, 0.99) = 0.1, DCF = FRR + 9.9 FAR: t=9 gives 0.5, t=6 2.475
    assert min_dcf(SCORES, LABELS, 0.01, c_miss=10.0) == 0.5
    # p=0.5, c_fa=0.1: normaliser 0.05, DCF = 10 FRR + FAR: t=6 gives 0.25
    assert min_dcf(SCORES, LABELS, 0.5, c_fa=0.1) == pytest.approx(0.25)


def test_hand_computed_act_dcf() -> None:
    # p=0.5: threshold 0; impostors -2 -1 1 3 give FAR 1/2, genuine -0.5 2 give FRR 1/2: FRR + FAR = 1
    scores, labels = [-2, -1, 1, 3, -0.5, 2], [0, 0, 0, 0, 1, 1]
    assert act_dcf(scores, labels, 0.5) == 1.0
    # p=0.2: threshold log 4 = 1.386; FAR 1/4, FRR 1/2; normaliser 0.2, DCF = FRR + 4 FAR = 1.5
    assert act_dcf(scores, labels, 0.2) == pytest.approx(1.5)
    # the same threshold by costs: p=0.5, c_fa=4: normaliser 0.5, DCF = FRR + 4 FAR
    assert act_dcf(scores, labels, 0.5, c_fa=4.0) == pytest.approx(1.5)


def test_a_score_at_the_bayes_threshold_is_accepted() -> None:
    assert act_dcf([0.0, -1.0], [1, 0], 0.5) == 0.0
    assert act_dcf([0.0, 1.0], [0, 1], 0.5) == 1.0


@pytest.mark.parametrize("p_target", [0.001, 0.01, 0.05, 0.1, 0.3])  # rounded up by some, down by others
def test_the_bayes_threshold_is_not_rounded_to_float32(p_target: float) -> None:
    # a float32 threshold would fall on one of the two float32 neighbours of the exact one, and may misjudge that score
    exact = bayes_threshold(p_target)
    near = np.float32(exact)
    rounded_down = float(near) < exact
    below = near if rounded_down else np.nextafter(near, np.float32(-9))
    above = np.nextafter(near, np.float32(9)) if rounded_down else near
    assert act_dcf(np.array([below, above], np.float32), [0, 1], p_target) == 0.0


def test_bayes_threshold() -> None:
    assert bayes_threshold(0.5) == 0.0
    assert bayes_threshold(0.01) == pytest.approx(math.log(99))
    assert bayes_threshold(0.01, c_miss=99.0) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("p_target", [0.001, 0.01, 0.05, 0.5, 0.9])
def test_collapsed_scores_cost_exactly_one(p_target: float) -> None:
    assert min_dcf(np.full(5, 0.3), [0, 1, 0, 0, 1], p_target) == 1.0


def test_perfect_separation_costs_nothing() -> None:
    assert min_dcf([-3, -2, 2, 3], [0, 0, 1, 1], 0.01) == 0.0
    assert act_dcf([-9, -8, 8, 9], [0, 0, 1, 1], 0.01) == 0.0


@given(trials, priors, costs, costs)
def test_least_is_between_zero_and_one_and_never_above_actual(
    rows: Rows, p_target: float, c_miss: float, c_fa: float
) -> None:
    det = det_curve(*columns(rows))
    least = min_dcf_of(det, p_target, c_miss, c_fa)
    assert 0.0 <= least <= 1.0
    assert least <= act_dcf_of(det, p_target, c_miss, c_fa)


@given(trials, priors, costs, costs)
def test_specification(rows: Rows, p_target: float, c_miss: float, c_fa: float) -> None:
    scores, labels = columns(rows)

    def cost(threshold: float) -> float:
        miss = np.mean(scores[labels] < threshold)
        false_accept = np.mean(scores[~labels] >= threshold)
        default = min(c_miss * p_target, c_fa * (1 - p_target))
        return float((c_miss * p_target * miss + c_fa * (1 - p_target) * false_accept) / default)

    least = min(cost(threshold) for threshold in [*scores, np.inf])
    assert min_dcf(scores, labels, p_target, c_miss, c_fa) == pytest.approx(least)
    actual = cost(math.log(c_fa * (1 - p_target) / (c_miss * p_target)))
    assert act_dcf(scores, labels, p_target, c_miss, c_fa) == pytest.approx(actual)


@given(trials, priors)
def test_swapping_roles_swaps_the_prior(rows: Rows, p_target: float) -> None:
    scores, labels = columns(rows)
    assert min_dcf(scores, labels, p_target) == pytest.approx(min_dcf(-scores, ~labels, 1 - p_target))


@given(trials, priors)
def test_rising_transforms_change_nothing(rows: Rows, p_target: float) -> None:
    scores, labels = columns(rows)
    assert min_dcf(scores, labels, p_target) == min_dcf(np.arctan(scores), labels, p_target)


@pytest.mark.parametrize("p_target", [0.0, 1.0, -0.1, np.nan])
def test_a_prior_out_of_range_is_refused(p_target: float) -> None:
    for figure in (min_dcf, act_dcf):
        with pytest.raises(ValueError, match=re.escape(f"p_target must be a prior in (0, 1), got {p_target}")):
            figure(SCORES, LABELS, p_target)


@pytest.mark.parametrize("cost", [0.0, -1.0, np.inf, np.nan])
def test_a_cost_out_of_range_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"c_miss must be a finite cost > 0, got {cost}")):
        min_dcf(SCORES, LABELS, 0.5, c_miss=cost)
    with pytest.raises(ValueError, match=re.escape(f"c_fa must be a finite cost > 0, got {cost}")):
        act_dcf(SCORES, LABELS, 0.5, c_fa=cost)
