"""Figures of a list of pairs are those of the metrics on the cosines of image + mirror."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qmargin.metrics import eer, file_order_folds, grid_pair_accuracy, pair_accuracy, tar_at_far
from qmargin.protocols import ImagePairs, verify_pairs
from qmargin.scoring import Features

GENERATOR = np.random.default_rng(0)
SAME = GENERATOR.random(400) < 0.5
FIRST = GENERATOR.integers(20, size=400)
STEP = np.where(SAME, 5 * GENERATOR.integers(1, 4, size=400), 5 * GENERATOR.integers(4, size=400) + 1)
SIDES = np.stack([FIRST, (FIRST + STEP) % 20], axis=1)  # image i is of person i % 5; no image with itself
FEATURES = Features(
    GENERATOR.normal(size=(20, 6)).astype(np.float32), GENERATOR.normal(size=(20, 6)).astype(np.float32)
)
PAIRS = ImagePairs("lfw", "0" * 64, [Path(f"{place}.jpg") for place in range(20)], SIDES, SAME, file_order_folds(400))


@pytest.mark.parametrize("flip", [True, False])
def test_the_figures_are_those_of_the_metrics(flip: bool) -> None:
    report = verify_pairs(PAIRS, FEATURES, flip=flip)
    assert FEATURES.mirrors is not None
    vectors = FEATURES.images.astype(float) + (FEATURES.mirrors if flip else 0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit[SIDES[:, 0]] * unit[SIDES[:, 1]]).sum(axis=1)
    assert report.accuracy.mean == pytest.approx(pair_accuracy(cosines, SAME).mean)
    assert report.grid_accuracy.mean == pytest.approx(grid_pair_accuracy(cosines, SAME).mean)
    assert report.eer == pytest.approx(eer(cosines, SAME), abs=1e-9)
    assert [point.far_target for point in report.points] == [1e-1, 1e-2]
    assert report.points[0].tar == pytest.approx(tar_at_far(cosines, SAME, 1e-1).tar)
    assert (report.genuine, report.impostor, report.images, report.folds) == (SAME.sum(), (~SAME).sum(), 20, 10)
    assert report.flip is flip
    assert_array_equal(report.accuracy.per_fold, pair_accuracy(cosines, SAME).per_fold)


def test_flipping_changes_the_figures() -> None:
    assert verify_pairs(PAIRS, FEATURES, flip=True).eer != verify_pairs(PAIRS, FEATURES, flip=False).eer


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"there are features of 19 images, the list has 20"):
        verify_pairs(PAIRS, Features(FEATURES.images[:-1]), flip=False)
    with pytest.raises(ValueError, match=r"flip adds the features of the mirrored images, which were not computed"):
        verify_pairs(PAIRS, Features(FEATURES.images), flip=True)
    broken = FEATURES.images.copy()
    broken[3], broken[5] = 0, np.nan
    with pytest.raises(ValueError, match=r"the feature of 3\.jpg \(2 in all\) is zero or not finite"):
        verify_pairs(PAIRS, Features(broken), flip=False)


def test_intervals_are_over_the_subjects_that_genuine_pairs_join() -> None:
    report = verify_pairs(PAIRS, FEATURES, flip=False, resamples=60)
    assert report.resampled == "5 subjects: images joined by genuine pairs"
    assert list(report.intervals) == ["EER", "TAR@FAR=1e-01", "TAR@FAR=1e-02", "accuracy", "accuracy (grid)"]
    assert report.intervals["accuracy"].estimate == pytest.approx(report.accuracy.mean)
    assert report.intervals["accuracy (grid)"].estimate == pytest.approx(report.grid_accuracy.mean)
    assert report.intervals["EER"].estimate == report.eer
    assert all(0.0 <= one.low <= one.estimate < one.high < 1.0 for one in report.intervals.values())
    assert report.intervals["EER"].low < report.eer
    assert report.band is not None
    assert report.warnings == tuple(
        f"TAR@FAR=1e-0{n} rests on {point.false_accepts} false accepts, fewer than 30"
        for n, point in enumerate(report.points, 1)
    )


def test_no_resamples_no_intervals_and_contradictions_matter_to_them_alone() -> None:
    report = verify_pairs(PAIRS, FEATURES, flip=False, resamples=0)
    assert (report.intervals, report.resampled, report.band) == ({}, "", None)
    wrong = ImagePairs("lfw", "", PAIRS.images, SIDES, SAME ^ (np.arange(400) == 7), PAIRS.folds)
    with pytest.raises(ValueError, match=r"labels contradict each other.*or give --resamples 0"):
        verify_pairs(wrong, FEATURES, flip=False)
    assert verify_pairs(wrong, FEATURES, flip=False, resamples=0).intervals == {}
