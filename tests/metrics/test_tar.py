"""TAR@FAR under both rules, against hand-computed points and the peers' own lines."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from qmargin.metrics import DetCurve, TarAtFar, det_curve, tar_at_far, tar_at_far_of

IMPOSTORS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
GENUINE = [0.35, 0.75, 0.95, 1.1]
SCORES = IMPOSTORS + GENUINE
LABELS = [0] * 10 + [1] * 4

trials = st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def test_hand_computed_point_with_all_its_fields() -> None:
    # FAR <= 0.25 of 10 impostors: at most 2. The lowest such threshold is 0.9 (0.9, 1.0 accepted);
    # genuine >= 0.9: 0.95 and 1.1, so TAR 2/4
    assert tar_at_far(SCORES, LABELS, 0.25) == TarAtFar(
        tar=0.5, far_target=0.25, far=0.2, threshold=0.9, false_accepts=2, impostors=10, rule="conservative"
    )


def test_a_reachable_far_is_reached() -> None:
    # 3 of 10: impostors 0.8, 0.9, 1.0; the lowest threshold with these three is the genuine score 0.75
    point = tar_at_far(SCORES, LABELS, 0.3)
    assert (point.far, point.threshold, point.false_accepts, point.tar) == (0.3, 0.75, 3, 0.75)


def test_far_of_one_accepts_everything() -> None:
    point = tar_at_far(SCORES, LABELS, 1.0)
    assert (point.tar, point.far, point.threshold, point.false_accepts) == (1.0, 1.0, 0.1, 10)


def test_tied_impostors_are_accepted_together_or_not_at_all() -> None:
    # five impostors share the highest score with a genuine one: FAR is 1 or 0.5 or 0, so 0.4 leaves only +inf
    scores, labels = [0.2] * 5 + [0.8] * 5 + [0.8, 0.5], [0] * 10 + [1, 1]
    point = tar_at_far(scores, labels, 0.4)
    assert (point.tar, point.far, point.threshold, point.false_accepts) == (0.0, 0.0, np.inf, 0)
    point = tar_at_far(scores, labels, 0.4, rule="nearest")  # 0.5 is nearer to 0.4 than 0: above the target
    assert (point.tar, point.far, point.threshold, point.false_accepts) == (1.0, 0.5, 0.5, 5)


def test_nearest_takes_the_higher_of_two_equally_near_rates() -> None:
    # FAR 0.25 and 0.75 are equally far from 0.5 (which two tied impostors skip)
    scores, labels = [0.1, 0.3, 0.3, 0.5, 0.2, 0.4], [0, 0, 0, 0, 1, 1]
    assert tar_at_far(scores, labels, 0.5, rule="nearest").far == 0.75
    assert tar_at_far(scores, labels, 0.5).far == 0.25


def peers_reading(scores: Any, labels: Any, far: float) -> tuple[float, float]:
    fpr, tpr, _ = roc_curve(labels, scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    _, index = min(zip(abs(fpr - far), range(fpr.size), strict=True))
    return float(fpr[index]), float(tpr[index])


@pytest.mark.parametrize("decimals", [8, 2, 1, 0])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_what_peers_read(seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random(400) < 0.3
    scores = (generator.normal(size=400) + labels).round(decimals)
    det = det_curve(scores, labels)
    for far in (0.01, 0.0314, 0.1, 0.25, 0.5, 1.0):
        point = tar_at_far_of(det, far, "nearest")
        assert (point.far, point.tar) == pytest.approx(peers_reading(scores, labels, far), abs=1e-12)


@given(trials, st.floats(0.02, 1.0))
def test_nearest_is_what_peers_read_on_short_lists(rows: list[tuple[int, bool]], far: float) -> None:
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    det = resampled(det_curve(scores, labels))
    point = tar_at_far_of(det, far, "nearest")
    assert (point.far, point.tar) == pytest.approx(peers_reading(scores, labels, far), abs=1e-12)


@given(trials, st.floats(0.02, 1.0))
def test_conservative_is_the_best_tar_within_the_rate(rows: list[tuple[int, bool]], far: float) -> None:
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    det = resampled(det_curve(scores, labels))
    point = tar_at_far_of(det, far)
    allowed = det.far <= far
    assert point.far <= far
    assert point.tar == (1.0 - det.frr)[allowed].max()
    assert point.threshold == det.thresholds[allowed].min()
    assert point.false_accepts == np.count_nonzero(scores[~labels] >= point.threshold)


def resampled(det: DetCurve) -> DetCurve:
    return DetCurve(det.thresholds, det.far, det.frr, det.genuine, det.impostor, resampled=True)


def test_rates_written_as_decimals_are_met_exactly() -> None:
    # k / n is one correctly rounded division, so 0.001, 0.003 ... of 1000 impostors are no rounding lottery
    impostors = np.arange(1000) / 1000
    det = det_curve(np.append(impostors, 2.0), np.append(np.zeros(1000, int), 1))
    for count in range(1, 1001):
        assert tar_at_far_of(det, float(f"{count / 1000:.3f}")).false_accepts == count


@pytest.mark.parametrize(
    ("impostors", "far", "needed"),
    # 1 / (1 / 49) is above 49 in floats, and (1 / 49) * 49 below 1
    [(999, 1e-3, 1000), (99_999, 1e-5, 100_000), (10, 0.07, 15), (2, 1 / 3, 3), (48, 1 / 49, 49)],
)
@pytest.mark.parametrize("rule", ["conservative", "nearest"])
def test_too_few_impostors_are_refused_with_the_number_needed(
    impostors: int, far: float, needed: int, rule: Any
) -> None:
    def list_of(count: int) -> DetCurve:
        return det_curve(np.append(np.arange(count), count), np.append(np.zeros(count, int), 1))

    message = f"TAR at FAR {far:g} needs at least {needed} impostor trials, got {impostors}; the lowest FAR"
    with pytest.raises(ValueError, match=re.escape(message)):
        tar_at_far_of(list_of(impostors), far, rule)
    assert tar_at_far_of(list_of(needed), far, rule).tar == 1.0
    assert tar_at_far_of(list_of(needed), far).false_accepts == 1
    assert tar_at_far_of(resampled(list_of(impostors)), far).false_accepts == 0


@pytest.mark.parametrize("far", [0.0, -0.1, 1.1, np.nan, np.inf])
def test_a_far_that_is_no_share_is_refused(far: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"far must be a share in (0, 1], got {far}")):
        tar_at_far(SCORES, LABELS, far)


def test_an_unknown_rule_is_answered_with_the_nearest_name() -> None:
    wrong: Any = "nearst"
    with pytest.raises(ValueError, match=r"conservative, nearest, got 'nearst'; did you mean 'nearest'\?"):
        tar_at_far(SCORES, LABELS, 0.5, wrong)
