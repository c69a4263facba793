"""From scored runs to a comparison: seeds averaged, subjects resampled, differences paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics import (
    Draws,
    Method,
    PairedInterval,
    Progress,
    Statistic,
    Strata,
    TarAtFar,
    det_curve,
    figures_and_band,
    paired_subject_bootstrap,
    tar_at_far,
)
from qmargin.protocols.comparison import (
    Comparison,
    Difference,
    Estimate,
    Figure,
    Floats,
    Histogram,
    System,
    TrainingCurve,
)
from qmargin.protocols.few import FEW_FALSE_ACCEPTS, eer_false_accepts
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import FARS, by_name, figures_for, tar_name

HISTOGRAM_BINS = 60

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """One run as the comparison needs it: its setting, its trials and its training curve."""

    path: str
    seed: int
    system: str  # runs of one system differ in the seed only
    setting: str  # value of the field in which systems differ, as text
    settings: Mapping[str, str]  # the whole config, flattened
    trials: Trials
    support_steps: Sequence[float]
    support: Sequence[float]  # mean support size at those steps


def compare(
    runs: Sequence[ScoredRun],
    baseline: str,
    *,
    differing_field: str,
    title: str,
    provenance: dict[str, str],
    notes: Sequence[str] = (),
    resamples: int = 1000,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare systems on the same trials.

    Args:
        runs: at least one of each system; all scored on the same trials.
        baseline: the system that others are compared with.
        differing_field: name of the one field in which systems differ ("" if they differ in more, or in nothing).
        title: of the report.
        provenance: what was run, where and when.
        notes: caveats beside those that follow from the counts.
        resamples: bootstrap draws over subjects, the same for every figure and system.
        method: of the intervals of single figures, "wilson" or "percentile".
        strata: subject -> stratum, as in `subject_bootstrap`.
        progress: called with the number of resamples just done.

    Returns:
        The comparison, systems in the order of their first run, the baseline included.

    Raises:
        ValueError: no runs, an unknown baseline, runs scored on different trials, runs of one name that differ in more
            than the seed, or a seed twice.
    """
    _check(runs, baseline)
    trials = runs[0].trials
    chosen = figures_for(trials)
    names = list(dict.fromkeys(run.system for run in runs))
    grouped = {name: [run for run in runs if run.system == name] for name in names}
    for name, group in grouped.items():
        _check_seeds(name, group)
    edges = np.linspace(*_score_range(runs), HISTOGRAM_BINS + 1, dtype=np.float64)
    draws: Draws = {"resamples": resamples, "strata": strata, "progress": progress}
    systems = tuple(_system(name, grouped, baseline, chosen, edges, method, draws) for name in names)
    return Comparison(
        title=title,
        baseline=baseline,
        figures=tuple(chosen),
        systems=systems,
        subjects=len(np.unique(trials.subjects)),
        genuine=int(np.count_nonzero(trials.labels)),
        impostor=int(np.count_nonzero(~trials.labels)),
        differing_field=differing_field,
        shared_settings=_shared(runs),
        notes=(*notes, *_count_notes(systems, resamples)),
        provenance=provenance,
    )


def _check(runs: Sequence[ScoredRun], baseline: str) -> None:
    if not runs:
        raise ValueError("a comparison needs at least one run: give the folders of evaluated runs")
    known = sorted({run.system for run in runs})
    if baseline not in known:
        raise ValueError(f"the baseline {baseline!r} is none of the compared systems: {', '.join(known)}")
    for run in runs[1:]:
        if run.trials.digest != runs[0].trials.digest:
            raise ValueError(
                f"{run.path} and {runs[0].path} were scored on different trials: a paired comparison needs the same "
                "images of the same people; evaluate both runs on one split of one manifest"
            )


def _check_seeds(name: str, runs: Sequence[ScoredRun]) -> None:
    """Runs of one system are seeds of one setting: everything but the seed is equal, and no seed counts twice."""
    first = runs[0]
    for run in runs[1:]:
        differs = [
            key for key in {**first.settings, **run.settings} if first.settings.get(key) != run.settings.get(key)
        ]
        if set(differs) - {"seed"}:
            raise ValueError(
                f"{first.path} and {run.path} are both named {name!r} but differ in {', '.join(differs)}: only seeds "
                "are averaged; give one of them another --loss.name, or compare them apart"
            )
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"system {name!r} has a seed twice: {', '.join(map(str, seeds))}; each run must count once")


def _system(
    name: str,
    grouped: Mapping[str, Sequence[ScoredRun]],
    baseline: str,
    chosen: Mapping[Figure, Statistic],
    edges: Floats,
    method: Method,
    draws: Draws,
) -> System:
    runs, trials = grouped[name], grouped[name][0].trials
    scores = _scores(runs)
    statistics = by_name(chosen)
    intervals, band = figures_and_band(scores, trials.labels, trials.subjects, statistics, method=method, **draws)
    differences: dict[str, PairedInterval] = {}
    if name != baseline:
        differences = paired_subject_bootstrap(
            scores,
            _scores(grouped[baseline]),
            trials.labels,
            trials.subjects,
            statistics,
            higher_is_better={figure.name: figure.higher_is_better for figure in chosen},
            **draws,
        )
    points = _points(scores, trials, statistics)
    per_seed = [det_curve(row, trials.labels) for row in scores]
    return System(
        name=name,
        setting=runs[0].setting,
        seeds=tuple(run.seed for run in runs),
        runs=tuple(run.path for run in runs),
        estimates={
            key: Estimate(
                mean=interval.estimate,
                spread=_spread([statistics[key](det) for det in per_seed]),
                low=interval.low,
                high=interval.high,
            )
            for key, interval in intervals.items()
        },
        differences={
            key: Difference(mean=pair.difference, low=pair.low, high=pair.high, won=pair.won)
            for key, pair in differences.items()
        },
        false_accepts={name: float(np.mean([one.false_accepts for one in found])) for name, found in points.items()}
        | {"EER": float(np.mean([eer_false_accepts(det) for det in per_seed]))},
        points=points,
        band=band,
        histogram=_histogram(scores, trials, edges),
        support=tuple(
            TrainingCurve(seed=run.seed, steps=np.asarray(run.support_steps), values=np.asarray(run.support))
            for run in runs
        ),
        final_support=_final_support(runs),
    )


def _scores(runs: Sequence[ScoredRun]) -> Scores:
    return np.stack([run.trials.scores for run in runs])  # (seeds, trials)


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _points(scores: Scores, trials: Trials, statistics: Mapping[str, Statistic]) -> dict[str, tuple[TarAtFar, ...]]:
    """Where the TAR of each seed stands."""
    asked = {tar_name(far): far for far in FARS if tar_name(far) in statistics}
    return {name: tuple(tar_at_far(row, trials.labels, far) for row in scores) for name, far in asked.items()}


def _histogram(scores: Scores, trials: Trials, edges: Floats) -> Histogram:
    labels = np.tile(trials.labels, len(scores))
    genuine, impostor = (np.histogram(scores.ravel()[labels == kind], edges)[0] for kind in (True, False))
    return Histogram(edges=edges, genuine=genuine / genuine.sum(), impostor=impostor / impostor.sum())


def _score_range(runs: Sequence[ScoredRun]) -> tuple[float, float]:
    low = min(float(run.trials.scores.min()) for run in runs)
    high = max(float(run.trials.scores.max()) for run in runs)
    return low, high if high > low else low + 1.0


def _final_support(runs: Sequence[ScoredRun]) -> Estimate:
    last = [float(run.support[-1]) for run in runs]
    return Estimate(mean=float(np.mean(last)), spread=_spread(last), low=min(last), high=max(last))


def _shared(runs: Sequence[ScoredRun]) -> dict[str, str]:
    first = runs[0].settings
    return {name: value for name, value in first.items() if all(run.settings.get(name) == value for run in runs)}


def _count_notes(systems: Sequence[System], resamples: int) -> list[str]:
    notes = [
        f"Intervals are 95 % ones over the test subjects, from {resamples} resamples of them with the seeds averaged: "
        "they say how the figures would move with other people, not with other seeds. Spreads are standard deviations "
        "over the seeds."
    ]
    few = sorted({name for system in systems for name, n in system.false_accepts.items() if n < FEW_FALSE_ACCEPTS})
    if few:
        notes.append(
            f"{', '.join(few)} rest{'s' if len(few) == 1 else ''} on fewer than {FEW_FALSE_ACCEPTS} false accepts: "
            "read the interval, not the figure."
        )
    return notes
