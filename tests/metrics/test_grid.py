"""The bootstrap of long lists beside the exact one: same draws, exact rates, thresholds only left out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.metrics import (
    DetCurve,
    _grid,
    _resampling,
    det_curve,
    eer_of,
    min_dcf_of,
    subject_bootstrap,
    tar_at_far_of,
)
from qmargin.metrics._grid import GriddedTrials, SubjectWeights
from qmargin.metrics._validate import Floats, Mask


def draw(trials: int, subjects: int, seed: int = 0, decimals: int = 6) -> tuple[Floats, Mask, NDArray[np.int32]]:
    generator = np.random.default_rng(seed)
    sides = generator.integers(subjects, size=(trials, 2)).astype(np.int32)
    sides[: trials // 10, 1] = sides[: trials // 10, 0]
    labels = sides[:, 0] == sides[:, 1]
    ease = generator.normal(size=subjects)
    scores = generator.normal(size=trials) + 0.3 * ease[sides].sum(axis=1) + 3 * labels
    return scores.round(decimals), labels, sides


@pytest.mark.parametrize("decimals", [6, 1])
@pytest.mark.parametrize("block", [7, 8192])
def test_every_point_of_the_grid_is_a_point_of_the_weighted_curve(
    decimals: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_grid, "FINEST", 20)
    monkeypatch.setattr(_grid, "BLOCK", block)
    scores, labels, sides = draw(3000, 40, decimals=decimals)
    drawn = np.random.default_rng(1).poisson(1.0, size=(3, 40))
    curves = list(GriddedTrials.of(scores, labels, sides).curves(SubjectWeights(drawn)))
    for taken, curve in zip(drawn, curves, strict=True):
        assert curve is not None
        weights = np.where(labels, taken[sides[:, 0]], taken[sides[:, 0]] * taken[sides[:, 1]])
        for threshold, far, frr in zip(curve.thresholds, curve.far, curve.frr, strict=True):
            accepted = scores >= threshold
            assert far == weights[~labels & accepted].sum() / weights[~labels].sum()
            assert frr == weights[labels & ~accepted].sum() / weights[labels].sum()
        assert (curve.far[0], curve.frr[-1]) == (1.0, 1.0)


def test_the_grid_is_dense_at_both_ends_and_grows_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_grid, "FINEST", 50)
    ranks = _grid._ranks(100_000)
    assert ranks[:50].tolist() == list(range(50))
    assert ranks[-50:].tolist() == list(range(99_950, 100_000))
    above = 100_000 - ranks[ranks > 50_000][::-1]  # number of trials at or above each threshold
    assert (np.diff(above) <= above[:-1] / 50 + 1).all()
    assert len(ranks) < 1000
    assert _grid._ranks(3).tolist() == [0, 1, 2]


def test_intervals_of_a_long_list_are_those_of_the_exact_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = draw(40_000, 100)
    statistics = {"EER": eer_of, "TAR": lambda det: tar_at_far_of(det, 1e-3).tar, "cost": lambda d: min_dcf_of(d, 0.01)}
    exact = subject_bootstrap(*trials, statistics, resamples=60)
    monkeypatch.setattr(_resampling, "LONGEST_EXACT", 1000)
    gridded = subject_bootstrap(*trials, statistics, resamples=60)
    for name, interval in exact.items():
        assert gridded[name].estimate == interval.estimate
        width = interval.high - interval.low
        assert abs(gridded[name].low - interval.low) < 0.02 * width
        assert abs(gridded[name].high - interval.high) < 0.02 * width
    assert gridded != exact  # the grid was taken


def test_a_draw_without_one_class_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resampling, "LONGEST_EXACT", 1)
    labels, sides = np.array([True, False]), np.array([[0, 0], [1, 2]])
    seen: list[DetCurve] = []

    def count(det: DetCurve) -> float:
        seen.append(det)
        return det.genuine + det.impostor

    interval = subject_bootstrap([0.9, 0.1], labels, sides, count, resamples=45, method="percentile")
    assert (interval.low, interval.high) == (2.0, 2.0)  # only a draw of all three subjects has both classes
    assert len(seen) == 1 + 45 + 45  # the trials as they are, subjects drawn, pairs drawn


def test_the_estimate_is_read_from_the_whole_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resampling, "LONGEST_EXACT", 1000)
    monkeypatch.setattr(_grid, "FINEST", 5)
    scores, labels, sides = draw(20_000, 60)
    interval = subject_bootstrap(scores, labels, sides, lambda det: tar_at_far_of(det, 1e-2).tar, resamples=40)
    assert interval.estimate == tar_at_far_of(det_curve(scores, labels), 1e-2).tar
