"""Which figures a verification protocol reports, and the report of one run on its trials."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from qmargin._files import write_text
from qmargin.metrics import (
    DetCurve,
    Interval,
    Statistic,
    det_curve,
    eer_of,
    min_dcf_of,
    subject_bootstrap,
    tar_at_far_of,
)
from qmargin.protocols.comparison import Figure
from qmargin.protocols.pairs import Trials

MIN_DCF = "minDCF(0.01)"  # a cost, not a share: 1 is a system that knows nothing
FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
FEW_FALSE_ACCEPTS = 30  # the rule of 30: below it a rate is known to worse than about 30 % either way (Doddington 1998)


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """Figures of one run: each with its 95 % interval over subjects, and what it rests on."""

    subjects: int
    genuine: int
    impostor: int
    figures: dict[str, Interval]
    false_accepts: dict[str, int]  # of the TAR figures, at their thresholds
    thresholds: dict[str, float]  # of the TAR figures

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def figures_for(trials: Trials) -> dict[Figure, Statistic]:
    """The error rates that are compared: TAR at every decade of FAR that the number of impostors supports, and EER."""
    impostors = int(np.count_nonzero(~trials.labels))
    chosen: dict[Figure, Statistic] = {}
    for far in FARS:
        if far * impostors >= 1.0:
            chosen[Figure(name=tar_name(far), higher_is_better=True)] = _tar(far)
    chosen[Figure(name="EER", higher_is_better=False)] = eer_of
    return chosen


def tar_name(far: float) -> str:
    """Name of a TAR figure, e.g. `TAR@FAR=1e-03`."""
    return f"TAR@FAR={far:.0e}"


def verify(trials: Trials, *, resamples: int = 1000, seed: int = 0) -> VerificationReport:
    """The error rates and minDCF(0.01) of scored trials, each with a 95 % interval over resampled subjects.

    Args:
        trials: scored trials with genuine and impostor pairs.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The report; write it with `save`.
    """
    statistics = {**by_name(figures_for(trials)), MIN_DCF: lambda det: min_dcf_of(det, 0.01)}
    det = det_curve(trials.scores, trials.labels)
    intervals = subject_bootstrap(
        trials.scores, trials.labels, trials.subjects, statistics, resamples=resamples, seed=seed
    )
    points = {tar_name(far): tar_at_far_of(det, far) for far in FARS if tar_name(far) in intervals}
    return VerificationReport(
        subjects=len(np.unique(trials.subjects)),
        genuine=int(det.genuine),
        impostor=int(det.impostor),
        figures=intervals,
        false_accepts={name: point.false_accepts for name, point in points.items()},
        thresholds={name: point.threshold for name, point in points.items()},
    )


def by_name(chosen: Mapping[Figure, Statistic]) -> dict[str, Statistic]:
    """The statistics of figures by the figures' names."""
    return {figure.name: statistic for figure, statistic in chosen.items()}


def _tar(far: float) -> Statistic:
    def statistic(det: DetCurve) -> float:
        return tar_at_far_of(det, far).tar

    return statistic
