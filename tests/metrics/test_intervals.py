"""Wilson's interval from resamples: the textbook case, few errors, and refusals."""

import numpy as np
import pytest

from qmargin.metrics import det_curve, eer_of, subject_bootstrap, tar_at_far_of
from qmargin.metrics._intervals import wilson


def test_it_is_the_textbook_interval_where_trials_are_the_subjects() -> None:
    # 300 of 1000, one trial a subject: resamples are binomial, n = 1000 again; Wilson by hand: 0.2724 to 0.3291
    values = np.random.default_rng(0).binomial(1000, 0.3, size=200_000) / 1000
    assert wilson(0.3, values, 1000, 0.95) == pytest.approx((0.2724, 0.3291), abs=3e-4)


def test_few_errors_widen_it_and_none_leave_room() -> None:
    values = np.random.default_rng(0).binomial(100, 0.01, size=100_000) / 100
    low, high = wilson(0.01, values, 100, 0.95)
    assert 0.0 <= low < 0.002
    assert 0.05 < high < 0.08  # Clopper and Pearson: 0.0545
    nothing = wilson(0.0, np.zeros(50), 40, 0.95)
    assert nothing == pytest.approx((0.0, 0.0876), abs=1e-3)  # z^2 / (N + z^2)
    assert wilson(1.0, np.ones(50), 40, 0.95) == pytest.approx((0.9124, 1.0), abs=1e-3)


def test_it_is_reached_by_the_bootstrap_and_holds_the_estimate() -> None:
    generator = np.random.default_rng(0)
    sides = generator.integers(30, size=(3000, 2))
    sides[:600, 1] = sides[:600, 0]
    labels = sides[:, 0] == sides[:, 1]
    scores = generator.normal(size=3000) + 4 * labels
    figures = {"EER": eer_of, "TAR": lambda det: tar_at_far_of(det, 1e-2).tar}
    found = subject_bootstrap(scores, labels, sides, figures, resamples=60, method="wilson")
    plain = subject_bootstrap(scores, labels, sides, figures, resamples=60)
    for name, interval in found.items():
        assert interval.low < interval.estimate < interval.high
        assert interval.estimate == plain[name].estimate
        assert interval.high - interval.low > 0.9 * (plain[name].high - plain[name].low)
    assert found["EER"].estimate == eer_of(det_curve(scores, labels))


def test_what_it_is_not_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for figures in \[0, 1\], got 1.5 with resamples from 1 to 2"):
        wilson(1.5, np.array([1.0, 2.0]), 10, 0.95)
    with pytest.raises(ValueError, match="method must be one of percentile, wilson, got 'bca'"):
        subject_bootstrap([0.1, 0.9], [0, 1], [[0, 1], [0, 0]], eer_of, method="bca")  # type: ignore[call-overload]


def test_a_variance_known_from_few_errors_is_scaled_up_by_the_formula() -> None:
    # p = 0.005 of N = 40: p' = 0.7 / 41, p' (1 - p') / (p (1 - p)) = 3.373, so n = 0.004975 / (3.373 v) = 147.5
    values = 0.005 + np.sqrt(1e-5) * np.tile([1.0, -1.0], 500) * np.sqrt(999 / 1000)
    values -= values.min() * (values.min() < 0)
    assert values.var(ddof=1) == pytest.approx(1e-5)
    n, z2 = 147.5, 1.959964**2
    centre, half = 0.005 + z2 / 2 / n, np.sqrt(z2) * np.sqrt(0.005 * 0.995 / n + z2 / 4 / n**2)
    assert wilson(0.005, values, 40, 0.95) == pytest.approx(
        ((centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)), rel=1e-3, abs=1e-6
    )
    # many errors: nothing to scale, n = p (1 - p) / v up to p' for p
    low, high = wilson(0.5, 0.5 + 20 * (values - 0.005), 40, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(4e-3) / np.sqrt(1 + z2 / (0.25 / 4e-3)), rel=1e-3)
