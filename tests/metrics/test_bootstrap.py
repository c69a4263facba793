"""The bootstrap over subjects: its weights against a literal twin, pairing, determinism, refusals, coverage."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.metrics import (
    DetCurve,
    Interval,
    _resampling,
    det_curve,
    eer_of,
    min_dcf_of,
    paired_subject_bootstrap,
    subject_bootstrap,
    tar_at_far_of,
)
from qmargin.metrics._exact import TrialSubjects
from qmargin.metrics._resampling import Plan, Statistic, evaluate
from qmargin.metrics._subjects import Strata
from qmargin.metrics._subjects import Subjects as Numbered
from qmargin.metrics._validate import Floats, Mask

Subjects = NDArray[np.int64]


def trials_of(seed: int, subjects: int, trials: int, runs: int = 1) -> tuple[Floats, Mask, Subjects]:
    """Scores (runs, trials) with a subject effect, rounded so that some tie; a third of the trials genuine."""
    generator = np.random.default_rng(seed)
    left = generator.integers(subjects, size=trials)
    right = (left + generator.integers(1, subjects, size=trials)) % subjects
    genuine = generator.random(trials) < 1 / 3
    right[genuine] = left[genuine]
    ease = generator.normal(size=subjects)[left]
    scores = (generator.normal(size=(runs, trials)) + ease + 2 * genuine).round(1)
    return scores, genuine, np.stack([left, right], axis=1)


def tar(det: DetCurve) -> float:
    return tar_at_far_of(det, 0.1).tar


def mean_threshold(det: DetCurve) -> float:
    """Depends on every point of the curve, thresholds included."""
    return float(det.thresholds[:-1].mean() + det.far.mean() + 2 * det.frr.mean() + det.genuine + 3 * det.impostor)


def values_of(
    scores: Floats,
    genuine: Mask,
    subjects: Subjects,
    statistic: Statistic,
    count: int,
    seed: int,
    strata: Strata | None = None,
) -> Floats:
    """A statistic on each resample, (count,)."""
    how = Plan(resamples=count, confidence=0.5, seed=seed, strata=strata)
    found = evaluate({"scores": scores}, genuine, subjects, lambda det: np.array([statistic(det)]), how)
    values: Floats = found.values[0, 0]
    return values


def test_draws_weigh_trials_as_if_copies_of_subjects_had_been_scored() -> None:
    (scores,), genuine, subjects = trials_of(0, subjects=6, trials=40)
    generator = np.random.default_rng(7)
    # what the bootstrap draws, said again: as many subjects as there are, with replacement
    draws = [generator.integers(6, size=6) for _ in range(30)]
    expected = []
    for draw in draws:
        copies = [(number, subject) for number, subject in enumerate(draw)]  # each draw is one person
        rows = [
            (score, label)
            for score, label, (one, other) in zip(scores, genuine, subjects, strict=True)
            for first, subject in copies
            for second, partner in copies
            if subject == one and partner == other and (not label or first == second)
        ]
        if {label for _, label in rows} == {True, False}:
            twin = det_curve([score for score, _ in rows], [label for _, label in rows])
            expected.append(mean_threshold(twin))
    assert len(expected) >= 25
    np.testing.assert_array_equal(values_of(scores, genuine, subjects, mean_threshold, len(expected), seed=7), expected)


def test_pairs_are_the_same_in_either_order_and_names_are_only_names() -> None:
    scores, genuine, subjects = trials_of(1, subjects=8, trials=120)
    plain = subject_bootstrap(scores, genuine, subjects, eer_of, resamples=50)
    assert subject_bootstrap(scores, genuine, subjects[:, ::-1], eer_of, resamples=50) == plain
    assert subject_bootstrap(scores, genuine, subjects * 1000 - 5, eer_of, resamples=50) == plain


def test_a_draw_without_one_class_is_drawn_again() -> None:
    # three subjects, one genuine trial (of 0), one impostor trial (1, 2): only a draw of all three has both classes
    genuine, subjects = np.array([True, False]), np.array([[0, 0], [1, 2]])
    trials = TrialSubjects.of(Numbered.of(subjects, genuine), genuine)
    for weight in trials.resamples(20, np.random.default_rng(0)):
        np.testing.assert_array_equal(weight, [1, 1, 1, 1])


def test_the_estimate_is_the_figure_of_the_trials_as_they_are() -> None:
    scores, genuine, subjects = trials_of(2, subjects=10, trials=200, runs=3)
    interval = subject_bootstrap(scores, genuine, subjects, eer_of, resamples=40)
    assert interval.estimate == pytest.approx(np.mean([eer_of(det_curve(run, genuine)) for run in scores]))
    assert interval.low < interval.estimate < interval.high
    assert (interval.confidence, interval.resamples) == (0.95, 40)


def test_runs_share_the_draws_and_are_averaged() -> None:
    scores, genuine, subjects = trials_of(3, subjects=10, trials=200, runs=3)
    together = values_of(scores, genuine, subjects, eer_of, 40, seed=5)
    alone = [values_of(run, genuine, subjects, eer_of, 40, seed=5) for run in scores]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-14)


def test_the_interval_is_made_of_quantiles_and_the_bias_of_the_mean() -> None:
    scores, genuine, subjects = trials_of(4, subjects=10, trials=200)
    interval = subject_bootstrap(
        scores, genuine, subjects, tar, resamples=60, confidence=0.9, seed=3, method="percentile"
    )
    values = values_of(scores, genuine, subjects, tar, 60, seed=3)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))
    assert interval.bias == pytest.approx(values.mean() - tar(det_curve(scores[0], genuine)))


def test_several_statistics_are_each_what_they_are_alone() -> None:
    scores, genuine, subjects = trials_of(5, subjects=10, trials=150, runs=2)
    statistics = {"EER": eer_of, "TAR": tar, "minDCF(0.05)": lambda det: min_dcf_of(det, 0.05)}
    together = subject_bootstrap(scores, genuine, subjects, statistics, resamples=40)
    assert list(together) == list(statistics)
    for name, statistic in statistics.items():
        assert together[name] == subject_bootstrap(scores, genuine, subjects, statistic, resamples=40)


def test_a_seed_decides_and_the_order_of_trials_and_runs_does_not() -> None:
    scores, genuine, subjects = trials_of(6, subjects=12, trials=300, runs=3)
    plain = subject_bootstrap(scores, genuine, subjects, eer_of, resamples=50, seed=1)
    order = np.random.default_rng(0).permutation(300)
    shuffled = scores[::-1][:, order], genuine[order], subjects[order]
    assert subject_bootstrap(scores, genuine, subjects, eer_of, resamples=50, seed=1) == plain
    assert subject_bootstrap(*shuffled, eer_of, resamples=50, seed=1) == plain
    assert subject_bootstrap(scores, genuine, subjects, eer_of, resamples=50, seed=2) != plain


def test_figures_do_not_refuse_a_resample_but_do_refuse_the_trials() -> None:
    scores, genuine, subjects = trials_of(7, subjects=6, trials=60)
    lowest = 1.0 / np.count_nonzero(~genuine)  # any resample with fewer impostor trials would be refused
    interval = subject_bootstrap(scores, genuine, subjects, lambda det: tar_at_far_of(det, lowest).tar, resamples=50)
    assert 0.0 <= interval.low <= interval.high <= 1.0
    with pytest.raises(ValueError, match="needs at least 1000 impostor trials"):
        subject_bootstrap(scores, genuine, subjects, lambda det: tar_at_far_of(det, 1e-3).tar, resamples=50)


def test_equal_systems_differ_by_exactly_nothing() -> None:
    scores, genuine, subjects = trials_of(8, subjects=10, trials=200, runs=3)
    statistics = {"EER": eer_of, "TAR": tar}
    pairs = paired_subject_bootstrap(
        scores, scores[[2, 0, 1]], genuine, subjects, statistics, higher_is_better={"EER": False, "TAR": True}
    )
    for pair in pairs.values():
        assert (pair.difference, pair.low, pair.high, pair.won) == (0.0, 0.0, 0.0, 0.5)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_paired_difference_is_that_of_the_same_draws(higher_is_better: bool) -> None:
    scores, genuine, subjects = trials_of(9, subjects=10, trials=200, runs=2)
    other = (scores[:1] + 0.2 * genuine).round(1)  # one run against two
    pair = paired_subject_bootstrap(
        scores,
        other,
        genuine,
        subjects,
        tar,
        higher_is_better=higher_is_better,
        resamples=80,
        seed=4,
        method="percentile",
    )
    one, two = (values_of(s, genuine, subjects, tar, 80, seed=4) for s in (scores, other))
    difference = one - two
    won = difference > 0 if higher_is_better else difference < 0
    assert pair.won == np.mean(won + 0.5 * (difference == 0))
    assert 0.0 < pair.won < 1.0
    assert (pair.low, pair.high) == pytest.approx(tuple(np.quantile(difference, [0.025, 0.975])))
    single = [subject_bootstrap(s, genuine, subjects, tar, resamples=80).estimate for s in (scores, other)]
    assert pair.difference == pytest.approx(single[0] - single[1])


def test_pairing_narrows_the_interval_of_alike_systems() -> None:
    scores, genuine, subjects = trials_of(10, subjects=15, trials=400)
    better = scores + 0.1 * genuine
    pair = paired_subject_bootstrap(
        better, scores, genuine, subjects, eer_of, higher_is_better=False, resamples=100, method="percentile"
    )
    alone = subject_bootstrap(better, genuine, subjects, eer_of, resamples=100, method="percentile")
    assert pair.high - pair.low < 0.5 * (alone.high - alone.low)
    assert pair.won > 0.9


def test_subjects_not_trials_are_what_varies() -> None:
    # 12 subjects; every genuine trial of a subject has the same score, repeated 50 times: worth 12 trials, not 600
    ease = np.random.default_rng(0).normal(size=12)
    left = np.repeat(np.arange(12), 100)
    right = np.where(np.arange(1200) % 2, left, (left + 1) % 12)
    genuine = left == right
    scores = np.where(genuine, ease[left], -9.0)

    def missed(det: DetCurve) -> float:
        return float(det.frr[np.searchsorted(det.thresholds, 0.0)])

    subjects = np.stack([left, right], axis=1)
    interval = subject_bootstrap(scores, genuine, subjects, missed, resamples=400, method="percentile")
    share = np.mean(ease < 0)
    expected = 2 * 1.96 * np.sqrt(share * (1 - share) / 12)  # width of a binomial interval on 12 draws
    assert interval.high - interval.low == pytest.approx(expected, rel=0.2)


def test_coverage() -> None:
    """Nominal 90 %: of 100 lists by 40 new subjects the interval should hold the population's EER in about 90."""
    generator = np.random.default_rng(0)

    def scores_of(subjects: int, size: int) -> tuple[Floats, Mask, Subjects]:
        centre = generator.normal(size=(subjects, 1, 8))
        spread = np.exp(0.3 * generator.normal(size=(subjects, 1, 1)))  # some subjects are harder
        samples = centre + 0.6 * spread * generator.normal(size=(subjects, 3, 8))
        samples /= np.linalg.norm(samples, axis=-1, keepdims=True)
        left = generator.integers(subjects, size=size)
        shift = generator.integers(1, subjects, size=size)
        right = np.where(np.arange(size) % 5 == 0, left, (left + shift) % subjects)
        side = generator.integers(3, size=size)
        other = (side + 1 + generator.integers(2, size=size)) % 3
        scores = (samples[left, side] * samples[right, other]).sum(axis=1)
        return scores, left == right, np.stack([left, right], axis=1)

    truth = eer_of(det_curve(*scores_of(20_000, 400_000)[:2]))
    inside = 0
    for number in range(100):
        interval = subject_bootstrap(*scores_of(40, 800), eer_of, resamples=100, confidence=0.9, seed=number)
        inside += interval.low <= truth <= interval.high
    assert 80 <= inside <= 98


GOOD: dict[str, Any] = {
    "scores": [0.1, 0.5, 0.9, 0.8],
    "labels": [0, 0, 1, 1],
    "subjects": [[0, 1], [1, 2], [0, 0], [2, 2]],
    "statistic": eer_of,
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"subjects": [[0, 1], [1, 2], [0, 0]]}, "subjects must have shape (4, 2), the subject on each side of each trial"),
    ({"subjects": [[0.0, 1.0], [1, 2], [0, 0], [2, 2]]}, "subjects must be integers, got dtype float64"),
    ({"subjects": [["a", "b"], ["b", "c"], ["a", "a"], ["c", "c"]]}, "number names by `np.unique(names"),
    (
        {"subjects": [[0, 1], [1, 1], [0, 0], [2, 2]]},
        "a trial labelled impostor must have two different subjects, got 1 and 1 at trial 1 (1 such trials)",
    ),
    (
        {"subjects": [[0, 1], [1, 2], [0, 1], [2, 1]]},
        "a trial labelled genuine must have one subject, got 0 and 1 at trial 2 (2 such trials)",
    ),
    ({"scores": [0.1, 0.5, np.nan, 0.8]}, "scores must be finite, but trial 2 is nan"),
    ({"scores": [[0.1] * 4, [0.1, np.inf, 0.2, 0.3]]}, "scores of run 1 must be finite, but trial 1 is inf"),
    ({"scores": [[0.1] * 3]}, "scores of run 0 must have shape (4,), one for each label, got (3,)"),
    ({"scores": np.empty((0, 4))}, "scores must hold at least one run, got shape (0, 4)"),
    ({"labels": [1, 1, 1, 1]}, "labels must hold both classes"),
    ({"statistic": {}}, "statistic must be a function of a DetCurve, or a mapping of names to some, got {}"),
    ({"statistic": "eer"}, "statistic must be a function of a DetCurve"),
    ({"statistic": {"odd": lambda _: np.nan}}, "odd must be finite on every resample, got nan or inf"),
    ({"confidence": 95}, "confidence must be a share in (0, 1), got 95; 95 % is 0.95"),
    ({"resamples": 39}, "a confidence of 0.95 needs at least 40 resamples, so that each tail holds one, got 39"),
    ({"resamples": 19, "confidence": 0.9}, "a confidence of 0.9 needs at least 20 resamples"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        subject_bootstrap(**{**GOOD, **change})


def test_the_smallest_number_of_resamples_is_taken() -> None:
    assert isinstance(subject_bootstrap(**GOOD, resamples=40), Interval)
    assert isinstance(subject_bootstrap(**GOOD, resamples=20, confidence=0.9), Interval)


def test_paired_refusals() -> None:
    paired: Any = paired_subject_bootstrap
    with pytest.raises(ValueError, match="baseline_scores must have shape"):
        paired(**GOOD, baseline_scores=[0.1], higher_is_better=False)
    for better in (True, {"eer": False}, {"EER": False, "TAR": True}):
        with pytest.raises(ValueError, match=r"True or False for each statistic \(EER\), got"):
            paired(**{**GOOD, "statistic": {"EER": eer_of}}, baseline_scores=GOOD["scores"], higher_is_better=better)


def literal_stratified(
    scores: Floats, genuine: Mask, subjects: Subjects, strata: dict[int, str], count: int, seed: int
) -> list[float]:
    """A resample at a time, a stratum at a time, a copy of a subject at a time: what `strata=` means."""
    generator = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < count:
        copies = []
        for stratum in dict.fromkeys(strata[name] for name in sorted(strata)):
            members = [name for name in sorted(strata) if strata[name] == stratum]
            copies += [members[place] for place in generator.integers(len(members), size=len(members))]
        rows = [
            (score, label)
            for score, label, (one, other) in zip(scores, genuine, subjects, strict=True)
            for first, subject in enumerate(copies)
            for second, partner in enumerate(copies)
            if subject == one and partner == other and (not label or first == second)
        ]
        if {label for _, label in rows} == {True, False}:
            found.append(eer_of(det_curve([score for score, _ in rows], [label for _, label in rows])))
    return found


@pytest.mark.parametrize("longest", [0, 10**6])
def test_strata_are_drawn_apart_as_the_literal_twin_does(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resampling, "LONGEST_EXACT", longest)
    (scores,), genuine, subjects = trials_of(11, subjects=7, trials=80)
    strata = {0: "m", 1: "f", 2: "m", 3: "f", 4: "f", 5: "m", 6: "m"}
    expected = literal_stratified(scores, genuine, subjects, strata, 20, seed=5)
    np.testing.assert_allclose(
        values_of(scores, genuine, subjects, eer_of, 20, seed=5, strata=strata), expected, atol=1e-15
    )
    assert values_of(scores, genuine, subjects, eer_of, 20, seed=5).tolist() != expected


def test_each_draw_takes_as_many_of_each_stratum_as_it_has() -> None:
    _, genuine, subjects = trials_of(12, subjects=20, trials=200)
    strata = {name: "young" if name < 5 else "old" for name in range(20)}
    who = Numbered.of(subjects, genuine, strata)
    generator = np.random.default_rng(0)
    draws = np.stack([who.draw(generator) for _ in range(200)])
    assert (draws[:, :5].sum(axis=1) == 5).all()
    assert (draws[:, 5:].sum(axis=1) == 15).all()
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.3)


def test_strata_take_the_difference_between_them_out_of_the_interval() -> None:
    scores, genuine, subjects = trials_of(13, subjects=24, trials=1500)
    hard = {name: name % 2 for name in range(24)}
    harder = scores - 3.0 * (genuine & (subjects[:, 0] % 2 == 1))

    def missed(det: DetCurve) -> float:
        return float(det.frr[np.searchsorted(det.thresholds, 0.5)])

    plain = subject_bootstrap(harder, genuine, subjects, missed, resamples=200)
    within = subject_bootstrap(harder, genuine, subjects, missed, resamples=200, strata=hard)
    assert within.high - within.low < 0.8 * (plain.high - plain.low)
    one, other = harder, harder + 0.1 * genuine
    pair = paired_subject_bootstrap(
        one, other, genuine, subjects, missed, higher_is_better=False, resamples=60, strata=hard, method="percentile"
    )
    first, second = (values_of(s[0], genuine, subjects, missed, 60, seed=0, strata=hard) for s in (one, other))
    assert (pair.low, pair.high) == pytest.approx(tuple(np.quantile(first - second, [0.025, 0.975])))


def test_strata_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"strata must name the stratum of every subject, got none for subject 2 \(1 of 3"
    ):
        subject_bootstrap(**GOOD, strata={0: "a", 1: "a"})
    with pytest.raises(ValueError, match=r"each stratum must hold at least two subjects, got one in 'b' \(1 such"):
        subject_bootstrap(**GOOD, strata={0: "a", 1: "a", 2: "b", 9: "b"})


def test_pairs_of_subjects_are_drawn_by_one_coin_in_either_order() -> None:
    genuine = np.array([True, False, False, False])
    subjects = np.array([[5, 5], [5, 8], [8, 5], [5, 9]])
    trials = TrialSubjects.of(Numbered.of(subjects, genuine), genuine)
    weights = np.array([w[trials.at] for w in trials.pair_resamples(400, np.random.default_rng(0))])
    assert (weights[:, 0] == 1).all()
    np.testing.assert_array_equal(weights[:, 1], weights[:, 2])
    assert set(np.unique(weights[:, 1:])) == {0, 2}
    assert 0 < np.mean(weights[:, 1] == weights[:, 3]) < 0.6  # coins of their own; both 0 is drawn again
