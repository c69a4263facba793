"""The report of a scored trial list: figures, what they rest on, and the table of the papers."""

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import act_dcf, cllr, det_curve, eer, min_cllr, min_dcf, min_dcf_threshold_of
from qmargin.protocols.speaker import judge
from qmargin.protocols.trial_lists import TrialList


def scored(trials: int, seed: int = 0) -> tuple[NDArray[np.float64], TrialList, NDArray[np.int32]]:
    generator = np.random.default_rng(seed)
    sides = generator.integers(30, size=(trials, 2)).astype(np.int32)
    sides[: trials // 2, 1] = sides[: trials // 2, 0]
    labels = sides[:, 0] == sides[:, 1]
    made = TrialList(np.array(["a", "b"]), sides[:, 0] * 0, sides[:, 0] * 0 + 1, labels, "list", "0" * 64, "Tiny")
    return generator.normal(size=trials) + 3.0 * labels - 1.5, made, sides


def test_the_figures_are_those_of_the_metrics() -> None:
    scores, trials, sides = scored(4000)
    report = judge(scores, trials, speakers=sides, ratios=True, scoring={"score": "cosine"}, resamples=40)
    expected = {
        "EER": eer(scores, trials.labels),
        "minDCF(0.01)": min_dcf(scores, trials.labels, 0.01),
        "minDCF(0.05)": min_dcf(scores, trials.labels, 0.05),
        "actDCF(0.01)": act_dcf(scores, trials.labels, 0.01),
        "Cllr": cllr(scores, trials.labels),
        "minCllr": min_cllr(scores, trials.labels),
    }
    assert report.figures == expected
    assert {name: interval.estimate for name, interval in report.intervals.items()} == expected
    assert (report.speakers, report.genuine + report.impostor) == (30, 4000)


def test_false_accepts_are_counted_at_the_threshold_of_the_cost_and_few_are_warned_of() -> None:
    scores, trials, _ = scored(4000)
    report = judge(scores, trials, speakers=None, ratios=False, scoring={})
    for prior in (0.01, 0.05):
        threshold = min_dcf_threshold_of(det_curve(scores, trials.labels), prior)
        name = f"minDCF({prior})"
        assert report.thresholds[name] == threshold
        assert report.false_accepts[name] == np.count_nonzero(scores[~trials.labels] >= threshold)
        assert report.fars[name] == report.false_accepts[name] / report.impostor
    few = [name for name, count in report.false_accepts.items() if count < 30]
    assert [warning.split()[0] for warning in report.warnings] == few
    assert "minDCF(0.01)" in few
    many, more, _ = scored(200_000)
    assert judge(many, more, speakers=None, ratios=False, scoring={}).warnings == ()
