"""Which figures a verification protocol reports, and the report of one run on its trials."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qmargin.metrics import (
    DetBand,
    DetCurve,
    Interval,
    Method,
    Progress,
    Statistic,
    Strata,
    det_curve,
    eer_of,
    figures_and_band,
    min_dcf_of,
    tar_at_far_of,
)
from qmargin.metrics.tar import Rule
from qmargin.protocols.comparison import Figure
from qmargin.protocols.few import eer_false_accepts, few_false_accepts, min_dcf_false_accepts
from qmargin.protocols.pairs import Trials

MIN_DCF = "minDCF(0.01)"  # a cost, not a share: 1 is a system that knows nothing
FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """Figures of one run: each with its 95 % interval over subjects, and what it rests on."""

    subjects: int
    genuine: int
    impostor: int
    figures: dict[str, Interval]
    false_accepts: dict[str, int]  # of each figure, at its threshold
    thresholds: dict[str, float]  # of the TAR figures
    fars: dict[str, float]  # realised at these thresholds
    warnings: tuple[str, ...]
    band: DetBand  # of the DET curve


def figures_for(trials: Trials) -> dict[Figure, Statistic]:
    """The error rates that are compared: TAR at every decade of FAR that the number of impostors supports, and EER."""
    impostors = int(np.count_nonzero(~trials.labels))
    chosen: dict[Figure, Statistic] = {}
    for far in FARS:
        if far * impostors >= 1.0:
            chosen[Figure(name=tar_name(far), higher_is_better=True)] = tar_statistic(far)
    chosen[Figure(name="EER", higher_is_better=False)] = eer_of
    return chosen


def tar_name(far: float) -> str:
    """Name of a TAR figure, e.g. `TAR@FAR=1e-03`."""
    return f"TAR@FAR={far:.0e}"


def verify(
    trials: Trials,
    *,
    resamples: int = 1000,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """The error rates and minDCF(0.01) of scored trials, each with a 95 % interval over resampled subjects.

    Args:
        trials: scored trials with genuine and impostor pairs.
        resamples: bootstrap draws.
        seed: of the draws.
        method: of the intervals, "wilson" or "percentile".
        strata: subject -> stratum, as in `subject_bootstrap`.
        progress: called with the number of resamples just done.

    Returns:
        The report; `qmargin.report.run_tables` lays it out.
    """
    statistics = {**by_name(figures_for(trials)), MIN_DCF: lambda det: min_dcf_of(det, 0.01)}
    det = det_curve(trials.scores, trials.labels)
    intervals, band = figures_and_band(
        trials.scores,
        trials.labels,
        trials.subjects,
        statistics,
        resamples=resamples,
        seed=seed,
        method=method,
        strata=strata,
        progress=progress,
    )
    points = {tar_name(far): tar_at_far_of(det, far) for far in FARS if tar_name(far) in intervals}
    accepts = {name: point.false_accepts for name, point in points.items()}
    accepts |= {"EER": eer_false_accepts(det), MIN_DCF: min_dcf_false_accepts(det, 0.01)}
    return VerificationReport(
        subjects=len(np.unique(trials.subjects)),
        genuine=int(det.genuine),
        impostor=int(det.impostor),
        figures=intervals,
        false_accepts=accepts,
        thresholds={name: point.threshold for name, point in points.items()},
        fars={name: point.far for name, point in points.items()},
        warnings=few_false_accepts(accepts),
        band=band,
    )


def by_name(chosen: Mapping[Figure, Statistic]) -> dict[str, Statistic]:
    """The statistics of figures by the figures' names."""
    return {figure.name: statistic for figure, statistic in chosen.items()}


def tar_statistic(far: float, rule: Rule = "conservative") -> Statistic:
    """TAR at a FAR as a function of a curve."""

    def statistic(det: DetCurve) -> float:
        return tar_at_far_of(det, far, rule).tar

    return statistic
