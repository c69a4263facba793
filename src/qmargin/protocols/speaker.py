"""Figures of a scored trial list as the speaker papers print them: EER, minDCF(0.01), minDCF(0.05); JSON and Markdown.

Scores that are log-likelihood ratios have Cllr, minCllr and actDCF(0.01) beside. With the speakers known, each figure
has a 95 % interval over speakers: Wilson's for error rates and least costs, percentiles for the others, which may
exceed 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import (
    DetBand,
    Draws,
    Interval,
    Method,
    Progress,
    Statistic,
    Strata,
    act_dcf_of,
    cllr_of,
    det_curve,
    eer_of,
    figures_and_band,
    min_cllr_of,
    min_dcf_of,
    strata_sizes,
    subject_bootstrap,
)
from qmargin.protocols.few import eer_false_accepts, few_false_accepts, min_dcf_false_accepts, min_dcf_point
from qmargin.protocols.trial_lists import TrialList

PRIORS = (0.01, 0.05)
RATES: dict[str, Statistic] = {
    "EER": eer_of,
    "minDCF(0.01)": lambda det: min_dcf_of(det, 0.01),
    "minDCF(0.05)": lambda det: min_dcf_of(det, 0.05),
}
OF_RATIOS: dict[str, Statistic] = {
    "actDCF(0.01)": lambda det: act_dcf_of(det, 0.01),
    "Cllr": cllr_of,
    "minCllr": min_cllr_of,
}


@dataclass(frozen=True, kw_only=True)
class SpeakerReport:
    """Figures of one scored list, and all that is needed to make them again."""

    trials: str  # the list: counts, identity, checksum
    identity: str  # which published list, in words
    published: str | None  # its name, where it is one
    genuine: int
    impostor: int
    scoring: dict[str, str]  # how the scores were made
    figures: dict[str, float]
    intervals: dict[str, Interval]  # empty where the speakers are not known
    speakers: int | None
    false_accepts: dict[str, int]  # of EER and the minDCF figures, at their thresholds
    thresholds: dict[str, float]  # of the minDCF figures
    fars: dict[str, float]  # P_fa at these thresholds
    warnings: tuple[str, ...]
    strata: dict[str, int]  # number of speakers in each; empty where draws were not stratified
    band: DetBand | None  # of the DET curve


def judge(
    scores: NDArray[np.floating],
    trials: TrialList,
    *,
    speakers: NDArray[np.integer] | None,
    ratios: bool,
    scoring: Mapping[str, str],
    resamples: int = 1000,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> SpeakerReport:
    """The figures of a scored list.

    Args:
        scores: (trials,), higher = more alike.
        trials: the list.
        speakers: (trials, 2) numbered, of `speakers_of`; None leaves the intervals out.
        ratios: whether the scores are calibrated log-likelihood ratios.
        scoring: how the scores were made, for the record.
        resamples: bootstrap draws.
        seed: of the draws.
        method: of the intervals of error rates and least costs; figures that may exceed 1 have percentiles.
        strata: speaker -> stratum, as in `subject_bootstrap`; of every speaker in `speakers`.
        progress: called with the number of resamples just done.

    Returns:
        The report; `qmargin.report.speaker_table` lays it out.

    Raises:
        ValueError: trials or speakers that `qmargin.metrics` refuses.
    """
    statistics = RATES | OF_RATIOS if ratios else RATES
    det = det_curve(scores, trials.labels)
    intervals: dict[str, Interval] = {}
    band = None
    if speakers is not None:
        draws: Draws = {"resamples": resamples, "seed": seed, "strata": strata, "progress": progress}
        intervals, band = figures_and_band(scores, trials.labels, speakers, RATES, method=method, **draws)
        if ratios:
            intervals |= subject_bootstrap(scores, trials.labels, speakers, OF_RATIOS, method="percentile", **draws)
    points = {f"minDCF({prior:g})": min_dcf_point(det, prior) for prior in PRIORS}
    accepts = {"EER": eer_false_accepts(det)}
    accepts |= {f"minDCF({prior:g})": min_dcf_false_accepts(det, prior) for prior in PRIORS}
    return SpeakerReport(
        trials=trials.describe(),
        identity=trials.identity,
        published=trials.published,
        genuine=trials.genuine,
        impostor=len(trials) - trials.genuine,
        scoring=dict(scoring),
        figures={name: statistic(det) for name, statistic in statistics.items()},
        intervals=intervals,
        speakers=None if speakers is None else len(np.unique(speakers)),
        strata={} if speakers is None or strata is None else strata_sizes(strata, speakers),
        band=band,
        false_accepts=accepts,
        thresholds={name: float(det.thresholds[point]) for name, point in points.items()},
        fars={name: float(det.far[point]) for name, point in points.items()},
        warnings=few_false_accepts(accepts),
    )
