"""Figures of a scored trial list as the speaker papers print them: EER, minDCF(0.01), minDCF(0.05); JSON and Markdown.

Scores that are log-likelihood ratios have Cllr, minCllr and actDCF(0.01) beside. With the speakers known, each figure
has a 95 % interval over speakers: Wilson's for error rates and least costs, percentiles for the others, which may
exceed 1.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_text
from qmargin.metrics import (
    DetCurve,
    Interval,
    Statistic,
    act_dcf_of,
    cllr_of,
    det_curve,
    eer_of,
    min_cllr_of,
    min_dcf_of,
    min_dcf_threshold_of,
    subject_bootstrap,
)
from qmargin.protocols.trial_lists import TrialList
from qmargin.protocols.verification import FEW_FALSE_ACCEPTS

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
    identity: str  # which published list
    genuine: int
    impostor: int
    scoring: dict[str, str]  # how the scores were made
    figures: dict[str, float]
    intervals: dict[str, Interval]  # empty where the speakers are not known
    speakers: int | None
    false_accepts: dict[str, int]  # of the minDCF figures, at their thresholds
    warnings: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write `metrics.json` and `metrics.md` into a folder, atomically."""
        write_text(folder / "metrics.json", json.dumps(asdict(self), indent=2) + "\n")
        write_text(folder / "metrics.md", self.markdown())

    def markdown(self) -> str:
        """The table of the papers, with the list, the scoring and the warnings under it."""
        names = list(self.figures)
        head = "| list | " + " | ".join(f"{name}{' (%)' if name == 'EER' else ''}" for name in names) + " |"
        values = [f"| {self.identity} | " + " | ".join(self.cell(name) for name in names) + " |"]
        notes = [f"* {self.trials}", *(f"* {name}: {value}" for name, value in self.scoring.items())]
        if self.speakers is not None:
            notes.append(f"* in brackets: 95 % intervals over {self.speakers} speakers")
        notes += [f"* WARNING: {warning}" for warning in self.warnings]
        return "\n".join([head, "|---" * (len(names) + 1) + "|", *values, "", *notes]) + "\n"

    def cell(self, name: str) -> str:
        """A figure with its interval; EER in per cent, costs as they stand."""
        scale, digits = (100.0, 3) if name == "EER" else (1.0, 4)
        value = f"{scale * self.figures[name]:.{digits}f}"
        if name not in self.intervals:
            return value
        interval = self.intervals[name]
        return f"{value} [{scale * interval.low:.{digits}f}, {scale * interval.high:.{digits}f}]"


def judge(
    scores: NDArray[np.floating],
    trials: TrialList,
    *,
    speakers: NDArray[np.integer] | None,
    ratios: bool,
    scoring: Mapping[str, str],
    resamples: int = 1000,
    seed: int = 0,
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

    Returns:
        The report; write it with `save`.

    Raises:
        ValueError: trials or speakers that `qmargin.metrics` refuses.
    """
    statistics = RATES | OF_RATIOS if ratios else RATES
    det = det_curve(scores, trials.labels)
    intervals: dict[str, Interval] = {}
    if speakers is not None:
        intervals = subject_bootstrap(
            scores, trials.labels, speakers, RATES, resamples=resamples, seed=seed, method="wilson"
        )
        if ratios:
            intervals |= subject_bootstrap(
                scores, trials.labels, speakers, OF_RATIOS, resamples=resamples, seed=seed, method="percentile"
            )
    accepts = {f"minDCF({prior:g})": _false_accepts(det, prior) for prior in PRIORS}
    few = [f"{name} rests on {count} false accepts, fewer than {FEW_FALSE_ACCEPTS}" for name, count in accepts.items()]
    return SpeakerReport(
        trials=trials.describe(),
        identity=trials.identity,
        genuine=trials.genuine,
        impostor=len(trials) - trials.genuine,
        scoring=dict(scoring),
        figures={name: statistic(det) for name, statistic in statistics.items()},
        intervals=intervals,
        speakers=None if speakers is None else len(np.unique(speakers)),
        false_accepts=accepts,
        warnings=tuple(text for text, count in zip(few, accepts.values(), strict=True) if count < FEW_FALSE_ACCEPTS),
    )


def _false_accepts(det: DetCurve, prior: float) -> int:
    """Impostor trials accepted at the threshold of minDCF."""
    point = int(np.searchsorted(det.thresholds, min_dcf_threshold_of(det, prior)))
    return round(float(det.far[point]) * det.impostor)
