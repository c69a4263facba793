"""Pair accuracy of a resample is that of a list in which pairs are repeated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.metrics import file_order_folds, grid_pair_accuracy, pair_accuracy, pair_accuracy_bootstrap
from qmargin.metrics._validate import Floats, Mask
from qmargin.metrics.accuracy_bootstrap import RankedPairs


def pairs(seed: int = 0, count: int = 300) -> tuple[Floats, Mask, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    sides = generator.integers(40, size=(count, 2))
    sides[::2, 1] = sides[::2, 0]
    labels = sides[:, 0] == sides[:, 1]
    return np.clip(0.2 * generator.normal(size=count) + 0.4 * labels, -1, 1).round(2), labels, sides


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_repetitions(seed: int) -> None:
    cosines, labels, _ = pairs(seed)
    folds = file_order_folds(300)
    weights = np.random.default_rng(seed).poisson(1.0, size=300)
    found = RankedPairs(cosines, labels, folds).accuracies(weights)
    repeated = [np.repeat(values, weights) for values in (cosines, labels, folds)]
    expected = [accuracy(*repeated).mean for accuracy in (pair_accuracy, grid_pair_accuracy)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_fold_without_pairs_is_left_out() -> None:
    cosines, labels, _ = pairs()
    folds = file_order_folds(300)
    weights = (folds != 3).astype(np.int64)
    kept = folds != 3
    found = RankedPairs(cosines, labels, folds).accuracies(weights)
    assert found[0] == pytest.approx(pair_accuracy(cosines[kept], labels[kept], folds[kept]).mean)


def test_intervals_hold_the_estimate_and_narrow_with_more_people() -> None:
    few = pair_accuracy_bootstrap(*pairs(), resamples=100)
    many = pair_accuracy_bootstrap(*pairs(count=3000), resamples=100)
    for name, accuracy in (("accuracy", pair_accuracy), ("accuracy (grid)", grid_pair_accuracy)):
        assert few[name].estimate == pytest.approx(accuracy(*pairs()[:2]).mean)
        assert few[name].low < few[name].estimate < few[name].high
        assert many[name].high - many[name].low < 0.7 * (few[name].high - few[name].low)


def test_refusals_are_those_of_the_parts() -> None:
    cosines, labels, sides = pairs()
    with pytest.raises(ValueError, match=r"the grid of distances is for cosines in \[-1, 1\]"):
        pair_accuracy_bootstrap(cosines * 3, labels, sides)
    with pytest.raises(ValueError, match="a trial labelled impostor must have two different subjects"):
        pair_accuracy_bootstrap(cosines, np.arange(300) % 4 == 0, sides)
    with pytest.raises(ValueError, match="method must be one of wilson, percentile, got 't'"):
        pair_accuracy_bootstrap(cosines, labels, sides, method="t")  # type: ignore[arg-type]
