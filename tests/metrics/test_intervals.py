"""Wilson's interval from resamples: the textbook case, few errors, and refusals."""

import numpy as np
import pytest

from qmargin.metrics import det_curve, eer_of, paired_subject_bootstrap, subject_bootstrap, tar_at_far_of
from qmargin.metrics._intervals import (
    bias_square,
    check_shares,
    difference_interval,
    interval,
    student_quantile,
    variance,
    wilson,
)
from qmargin.metrics._validate import Floats


def wilson_of(estimate: float, values: Floats, subjects: int) -> tuple[float, float]:
    """Ends of the 95 % interval from resamples that no pair moves."""
    still = np.full((1, 2), estimate)
    known = variance(values[np.newaxis], still)
    low, high = wilson(np.array([estimate]), known, subjects, 0.95)
    return float(low[0]), float(high[0])


def test_it_is_the_textbook_interval_where_trials_are_the_subjects() -> None:
    # 300 of 1000, one trial a subject: resamples are binomial, n = 1000 again; Wilson by hand: 0.2724 to 0.3291
    values = np.random.default_rng(0).binomial(1000, 0.3, size=200_000) / 1000
    assert wilson_of(0.3, values, 1000) == pytest.approx((0.2724, 0.3291), abs=3e-4)


def test_few_errors_widen_it_and_none_leave_room() -> None:
    values = np.random.default_rng(0).binomial(100, 0.01, size=100_000) / 100
    low, high = wilson_of(0.01, values, 100)
    assert 0.0 <= low < 0.002
    assert 0.05 < high < 0.08  # Clopper and Pearson: 0.0545
    nothing = wilson_of(0.0, np.zeros(50), 40)
    assert nothing == pytest.approx((0.0, 0.0876), abs=1e-3)  # z^2 / (N + z^2)
    assert wilson_of(1.0, np.ones(50), 40) == pytest.approx((0.9124, 1.0), abs=1e-3)


def test_it_is_reached_by_the_bootstrap_and_holds_the_estimate() -> None:
    generator = np.random.default_rng(0)
    sides = generator.integers(30, size=(3000, 2))
    sides[:600, 1] = sides[:600, 0]
    labels = sides[:, 0] == sides[:, 1]
    scores = generator.normal(size=3000) + 4 * labels
    figures = {"EER": eer_of, "TAR": lambda det: tar_at_far_of(det, 1e-2).tar}
    found = subject_bootstrap(scores, labels, sides, figures, resamples=60)
    plain = subject_bootstrap(scores, labels, sides, figures, resamples=60, method="percentile")
    for name, one in found.items():
        assert one.low < one.estimate < one.high
        assert one.estimate == plain[name].estimate
        assert one.high - one.low > 0.9 * (plain[name].high - plain[name].low)
    assert found["EER"].estimate == eer_of(det_curve(scores, labels))


def test_what_it_is_not_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for figures in \[0, 1\], got 1.5 with resamples from 1 to 2"):
        check_shares(np.array([0.5, 1.5]), np.array([[0.5, 0.6], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="method must be one of wilson, percentile, got 'bca'"):
        subject_bootstrap([0.1, 0.9], [0, 1], [[0, 1], [0, 0]], eer_of, method="bca")  # type: ignore[call-overload]


def test_a_variance_known_from_few_errors_is_scaled_up_by_the_formula() -> None:
    # p = 0.02 of N = 40: p' = 1.3 / 41, k = p' (1 - p') / (p (1 - p)) = 1.5664, so n = 0.0196 / (1.5664 v) = 1251.3
    values = 0.02 + np.sqrt(1e-5) * np.tile([1.0, -1.0], 500) * np.sqrt(999 / 1000)
    assert values.var(ddof=1) == pytest.approx(1e-5)
    n, z2 = 1251.3, 1.959964**2
    centre, half = 0.02 + z2 / 2 / n, np.sqrt(z2) * np.sqrt(0.02 * 0.98 / n + z2 / 4 / n**2)
    assert wilson_of(0.02, values, 40) == pytest.approx(
        ((centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)), rel=1e-3, abs=1e-6
    )
    # many errors: nothing to scale, n = p (1 - p) / v up to p' for p
    low, high = wilson_of(0.5, 0.5 + 20 * (values - 0.02), 40)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(4e-3) / np.sqrt(1 + z2 / (0.25 / 4e-3)), rel=1e-3)


def test_at_most_twofold() -> None:
    # p = 0.001 of N = 40: p' = 0.54 / 41, p' (1 - p') = 0.012997; p (1 - p) is read as half of it, so k = 2
    estimates, variances = np.array([0.001]), np.array([1e-4])
    (low,), (high,) = wilson(estimates, variances, 40, 0.95)
    n, z2 = 0.012997 / 2 / 2e-4, 1.959964**2
    expected = (0.001 + z2 / 2 / n + np.sqrt(z2) * np.sqrt(0.001 * 0.999 / n + z2 / 4 / n**2)) / (1 + z2 / n)
    assert (low, high) == (pytest.approx(0.0, abs=1e-3), pytest.approx(expected, rel=1e-3))


def test_pairs_count_once_and_bias_widens() -> None:
    values = 0.3 + 0.01 * np.array([[1.0, -1.0] * 50])  # variance 1e-4 * 100 / 99
    still, pairs = np.full((1, 2), 0.3), 0.3 + 0.005 * np.array([[1.0, -1.0] * 50])  # and 0.25e-4 * 100 / 99
    share = 1e-4 * 100 / 99
    assert variance(values, still) == pytest.approx(share)
    assert variance(values, pairs) == pytest.approx(share - 2 * share / 4)
    assert variance(values, values) == pytest.approx(share)  # never below that of the pairs
    assert bias_square(np.array([0.31]), values) == pytest.approx(4e-4)  # (2 b)^2 with b = -0.01
    (plain,), (biased,) = (interval("wilson", np.array([p]), values, still, 40, 0.95)[1] for p in (0.3, 0.31))
    assert biased - 0.31 > 2 * (plain - 0.3)  # a variance of 1e-4 became 5e-4


def test_student_is_the_table() -> None:
    for freedom, quantile in ((1, 12.706), (2, 4.303), (9, 2.262), (39, 2.023), (1000, 1.962)):
        assert student_quantile(0.975, freedom) == pytest.approx(quantile, abs=1e-3)
    assert student_quantile(0.975, 3) == pytest.approx(3.182, rel=0.01)


def test_a_difference_is_known_by_its_own_variance() -> None:
    generator = np.random.default_rng(0)
    one = 0.3 + 0.02 * generator.normal(size=(1, 1000))
    other = one + 0.005 * generator.normal(size=(1, 1000)) + 0.1
    both, still = np.stack([one, other]), np.full((2, 1, 2), 0.3)
    estimates = both.mean(axis=2)
    (low,), (high,) = difference_interval("t", estimates, both, still, 40, 0.95)
    # many errors: k = p' (1 - p') / (p (1 - p)) = 0.211932 / 0.21 at p = 0.3 of N = 40, almost 1
    assert high - low == pytest.approx(2 * 2.0227 * (one - other).std(ddof=1) * 1.0092**0.25, rel=1e-3)
    assert (low + high) / 2 == pytest.approx((estimates[0] - estimates[1]).item())
    # few errors: p = 0.02, of the first; sqrt(k) = sqrt(1.5664)
    few = np.stack([one - 0.28 - one.mean() + 0.3, other])
    (low_few,), (high_few,) = difference_interval("t", few.mean(axis=2), few, still, 40, 0.95)
    assert (high_few - low_few) / (high - low) == pytest.approx((1.5664 / 1.0092) ** 0.25, rel=1e-3)


def test_what_looks_like_bias_of_a_difference_is_at_most_half_its_variance() -> None:
    values = 0.01 * np.array([[1.0, -1.0] * 50])
    both = np.stack([0.5 + values, np.full_like(values, 0.5)])
    still = np.full((2, 1, 2), 0.5)
    widths = []
    for estimate in (0.5, 0.502, 0.52):  # b = 0, -0.002 and -0.02
        (low,), (high,) = difference_interval("t", np.array([[estimate], [0.5]]), both, still, 40, 0.95)
        widths.append(high - low)
    share = 1e-4 * 100 / 99
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(1 + 16e-6 / share), rel=1e-4)
    assert widths[2] / widths[0] == pytest.approx(np.sqrt(1.5), rel=1e-4)


def test_an_unknown_method_for_differences() -> None:
    with pytest.raises(ValueError, match="method must be one of t, percentile, got 'wilson'"):
        paired_subject_bootstrap(
            [0.1, 0.9],
            [0.1, 0.9],
            [0, 1],
            [[0, 1], [0, 0]],
            eer_of,
            higher_is_better=False,
            method="wilson",  # type: ignore[call-overload]
        )
