import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qmargin.metrics import eer, min_dcf, tar_at_far
from qmargin.protocols import Trials, verify

MakeTrials = Callable[[float, int], Trials]


def test_a_report_holds_the_figures_of_the_metrics_and_their_intervals(make_trials: MakeTrials, tmp_path: Path) -> None:
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
    report.save(tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["figures"]["EER"]["estimate"] == pytest.approx(
        report.figures["EER"].estimate
    )
