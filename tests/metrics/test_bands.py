"""Bands are the intervals of TAR@FAR, one for each FAR of the grid, from the same draws."""

import json
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.metrics import DetBand, DetCurve, _resampling, det_band, det_curve, far_grid, subject_bootstrap
from qmargin.metrics import tar_at_far_of as tar_of
from qmargin.metrics._validate import Floats, Mask
from qmargin.metrics.bands import frr_at


def trials(seed: int = 0, count: int = 4000) -> tuple[Floats, Mask, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    sides = generator.integers(30, size=(count, 2))
    sides[: count // 5, 1] = sides[: count // 5, 0]
    labels = sides[:, 0] == sides[:, 1]
    ease = generator.normal(size=30)
    return (generator.normal(size=count) + 0.3 * ease[sides].sum(axis=1) + 2 * labels).round(2), labels, sides


@pytest.mark.parametrize("method", ["wilson", "percentile"])
@pytest.mark.parametrize("longest", [0, 10**6])
def test_each_point_is_the_interval_of_one_minus_tar(
    method: Any, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resampling, "LONGEST_EXACT", longest)
    fars = [1e-3, 0.0123, 0.1, 0.5, 1.0]
    band = det_band(*trials(), fars, resamples=60, method=method, seed=3)

    def frr(far: float) -> Any:
        return lambda det: 1.0 - tar_of(det, far).tar

    figures = {str(far): frr(far) for far in fars}
    single = subject_bootstrap(*trials(), figures, resamples=60, method=method, seed=3)
    for k, interval in enumerate(single.values()):
        assert band.frr[k] == pytest.approx(interval.estimate, abs=1e-15)
        assert (band.low[k], band.high[k]) == pytest.approx((interval.low, interval.high), abs=1e-12)
    np.testing.assert_allclose(band.tar, 1 - band.frr)
    assert (band.tar_low <= band.tar).all()
    assert (band.tar <= band.tar_high).all()


def test_runs_are_averaged_at_equal_far() -> None:
    scores, labels, sides = trials()
    both = np.stack([scores, -scores])
    band = det_band(both, labels, sides, [0.01, 0.1], resamples=40)
    alone = [[1 - tar_of(det_curve(run, labels), far).tar for far in (0.01, 0.1)] for run in both]
    np.testing.assert_allclose(band.frr, np.mean(alone, axis=0))


def test_the_grid_goes_from_the_lowest_far_to_one() -> None:
    scores, labels, sides = trials()
    impostors = np.count_nonzero(~labels)
    band = det_band(scores, labels, sides, resamples=40)
    assert (band.far[0], band.far[-1]) == (1.0 / impostors, 1.0)
    assert np.ptp(np.diff(np.log10(band.far))) < 1e-9
    assert np.diff(np.log10(band.far))[0] <= 1 / 20
    assert far_grid(1).tolist() == [1.0]
    assert far_grid(1000, per_decade=1) == pytest.approx([1e-3, 1e-2, 1e-1, 1])


def test_ties_of_far_and_thresholds_between_points() -> None:
    det = DetCurve(
        np.arange(4, dtype=np.float64), np.array([1.0, 0.5, 0.5, 0.0]), np.array([0.0, 0.1, 0.3, 1.0]), 10, 10
    )
    assert frr_at(det, np.array([0.4, 0.5, 0.7, 1.0])).tolist() == [1.0, 0.1, 0.1, 0.0]


def test_it_goes_through_json() -> None:
    band = det_band(*trials(), [0.1, 0.5], resamples=40)
    read = DetBand.from_plain(json.loads(json.dumps(band.plain())))
    for name in ("far", "frr", "low", "high"):
        np.testing.assert_array_equal(getattr(read, name), getattr(band, name))
    assert (read.confidence, read.resamples, read.method) == (0.95, 40, "wilson")


@pytest.mark.parametrize("fars", [[], [0.5, 0.1], [1e-9, 0.1], [0.1, 1.5], [[0.1]], [0.1, 0.1]])
def test_refused_grids(fars: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("fars must rise and lie in [1 / impostors, 1] = [0.0003")):
        det_band(*trials(), fars, resamples=40)


def test_progress_is_told() -> None:
    told: list[int] = []
    det_band(*trials(), [0.1], resamples=300, progress=told.append)
    assert sum(told) == 300 + _resampling.PAIR_RESAMPLES
