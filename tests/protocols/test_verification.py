import json
from collections.abc import Callable

import numpy as np

from qmargin._files import to_json
from qmargin.metrics import DetBand, eer, min_dcf, tar_at_far
from qmargin.protocols import Trials, verify

MakeTrials = Callable[[float, int], Trials]


def test_a_report_holds_the_figures_of_the_metrics_and_their_intervals(make_trials: MakeTrials) -> None:
    trials = make_trials(1.5, 0)
    report = verify(trials, resamples=100)
    assert report.subjects == 12
    assert report.genuine == 12 * 10
    assert report.impostor == 60 * 59 // 2 - 120
    assert list(report.figures) == ["TAR@FAR=1e-01", "TAR@FAR=1e-02", "TAR@FAR=1e-03", "EER", "minDCF(0.01)"]
    point = tar_at_far(trials.scores, trials.labels, 1e-2)
    assert report.figures["TAR@FAR=1e-02"].estimate == point.tar
    assert report.false_accepts["TAR@FAR=1e-02"] == point.false_accepts
    assert report.thresholds["TAR@FAR=1e-02"] == point.threshold
    assert report.figures["EER"].estimate == eer(trials.scores, trials.labels)
    assert report.figures["minDCF(0.01)"].estimate == min_dcf(trials.scores, trials.labels, 0.01)
    assert all(interval.low <= interval.high for interval in report.figures.values())
    assert report.fars["TAR@FAR=1e-02"] == point.far <= 1e-2


def test_figures_on_few_false_accepts_warn_and_the_band_is_saved(make_trials: MakeTrials) -> None:
    report = verify(make_trials(1.5, 0), resamples=60)
    few = {name for name, count in report.false_accepts.items() if count < 30}
    assert set(report.false_accepts) == set(report.figures)
    assert few
    assert few != set(report.figures)
    assert len(report.warnings) == len(few)
    assert all(any(text.startswith(f"{name} rests on ") for text in report.warnings) for name in few)
    read = DetBand.from_plain(json.loads(to_json(report.band.plain())))
    np.testing.assert_array_equal(read.low, report.band.low)
    assert report.figures["EER"].method == "wilson"
    plain = verify(make_trials(1.5, 0), resamples=60, method="percentile")
    assert plain.figures["EER"].low != report.figures["EER"].low
    assert plain.figures["EER"].estimate == report.figures["EER"].estimate
