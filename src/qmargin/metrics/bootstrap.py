"""Intervals that say how far a figure would move with other subjects: a bootstrap over subjects, not over trials.

Conventions:
    Trials that share a subject are not independent, so subjects are what is drawn, as many as there are, with
    replacement. A subject drawn w_i times stands for w_i different people who happen to be alike: each brings its own
    genuine trials, so these weigh w_i; and each of the w_i copies of i meets each of the w_j copies of j, so an
    impostor trial weighs w_i w_j (the vertex bootstrap). Copies of one subject do not meet each other: no such trial
    was scored.
    Intervals are Wilson's for single figures and Student's for differences, with the variance of the resamples
    (`_intervals.py`), or by "percentile" linear quantiles of the resamples. Lists of more than 50,000 trials are
    resampled on a grid of thresholds (`_grid.py`): the same draws, rates exact at each of them. With several runs
    (seeds) of one system the statistic is averaged over the runs, on the same draws; the interval is about subjects,
    not about seeds.
    Figures never refuse a resample for having too few impostors; on the trials as given they do.

How far to trust them: `benchmarks/interval_coverage.py` counts how often they hold, and docs/performance.md has its
table. Least with few subjects, few errors, or fewer than 30 false accepts; a least cost over thresholds reads too well
there, and `Interval.bias` shows that. Draws say nothing of subjects unlike all of the list's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._intervals import DifferenceMethod, Method, check_method, difference_interval, interval
from qmargin.metrics._resampling import Plan, Progress, Resamples, Statistic, evaluate
from qmargin.metrics._subjects import Strata
from qmargin.metrics._validate import Floats
from qmargin.metrics.det import DetCurve


@dataclass(frozen=True)
class Interval:
    """A figure on the trials as they are, and the interval of its resamples."""

    estimate: float
    low: float
    high: float
    confidence: float  # share of the resamples inside, e.g. 0.95
    resamples: int
    bias: float  # mean of the resamples minus `estimate`; not small against the interval: do not trust the interval
    method: Method


@dataclass(frozen=True)
class PairedInterval:
    """System minus baseline, on the trials as they are and on the same resamples."""

    difference: float
    low: float
    high: float
    won: float  # share of the resamples in which the system was better than the baseline; a tie counts half
    confidence: float
    resamples: int


@overload
def subject_bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Statistic,
    *,
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
    method: Method = ...,
    strata: Strata | None = ...,
    progress: Progress | None = ...,
) -> Interval: ...
@overload
def subject_bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Mapping[str, Statistic],
    *,
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
    method: Method = ...,
    strata: Strata | None = ...,
    progress: Progress | None = ...,
) -> dict[str, Interval]: ...
def subject_bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Statistic | Mapping[str, Statistic],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "wilson",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> Interval | dict[str, Interval]:
    """Interval of one or several figures over resampled subjects.

    On each resample the figure is that of `det_curve(scores, labels, weights)`, weights w_i for a genuine trial of
    subject i and w_i w_j for an impostor trial; trials are sorted once for all resamples and figures.

    Args:
        scores: (trials,), or (runs, trials) for several seeds of one system on the same trials.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor.
        subjects: (trials, 2) integers, the subject on each side; equal for a genuine trial, different for an impostor.
        statistic: function of a `DetCurve`, or several by name; they share the sort and the draws.
        resamples: number of draws, at least 2 / (1 - confidence), so that each tail holds one.
        confidence: in (0, 1).
        seed: of the draws; the same seed gives the same interval, whatever the order of the trials.
        method: "wilson", for error rates and costs in [0, 1]; "percentile", for any figure, too narrow near 0 and 1.
        strata: subject -> stratum (gender, age group, source), of every subject: as many of each stratum are drawn as
            it has, from it. For a population whose strata are as large as the list's; each needs two subjects or more.
        progress: called with the number of resamples just done; `1.2 * resamples` or so in all.

    Returns:
        An `Interval`, or a dict of them by the names of `statistic`.

    Raises:
        ValueError: trials that `det_curve` refuses, subjects that contradict the labels (the first such trial is
            named), a figure that refuses the trials or is not finite, `resamples` or `confidence` out of range.

    Example:
        >>> from qmargin.metrics.eer import eer_of
        >>> subjects = np.array([(i, j) for i in range(8) for j in range(i, 8)])
        >>> labels = subjects[:, 0] == subjects[:, 1]
        >>> scores = np.random.default_rng(0).normal(size=36) + labels
        >>> interval = subject_bootstrap(scores, labels, subjects, eer_of)
        >>> f"{interval.estimate:.3f} in [{interval.low:.3f}, {interval.high:.3f}]"
        '0.268 in [0.132, 0.467]'

    Reference: Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics", 1999; for
    verification Fogliato, Patil and Perona, "Confidence intervals for error rates in 1:1 matching tasks", 2024.

    See also `paired_subject_bootstrap`, the one to use when two systems were scored on the same trials.
    """
    named = _by_name(statistic)
    check_method(method)
    plan = Plan(resamples=resamples, confidence=confidence, seed=seed, strata=strata, progress=progress)
    found = evaluate({"scores": scores}, labels, subjects, reading(named), plan)
    intervals = intervals_of(found, list(named), method, plan)
    return intervals if isinstance(statistic, Mapping) else intervals[_ONLY]


def intervals_of(found: Resamples, names: list[str], method: Method, plan: Plan) -> dict[str, Interval]:
    """Intervals of the first system, by the names of the first columns of its resamples."""
    check_finite(found, names)
    columns = slice(len(names))
    estimates, values = found.estimates[0, columns], found.values[0, columns]
    low, high = interval(method, estimates, values, found.of_pairs[0, columns], found.subjects, plan.confidence)
    return {
        name: Interval(
            estimate=float(estimates[k]),
            low=float(low[k]),
            high=float(high[k]),
            confidence=plan.confidence,
            resamples=plan.resamples,
            bias=float(values[k].mean() - estimates[k]),
            method=method,
        )
        for k, name in enumerate(names)
    }


@overload
def paired_subject_bootstrap(
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Statistic,
    *,
    higher_is_better: bool,
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
    method: DifferenceMethod = ...,
    strata: Strata | None = ...,
    progress: Progress | None = ...,
) -> PairedInterval: ...
@overload
def paired_subject_bootstrap(
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Mapping[str, Statistic],
    *,
    higher_is_better: Mapping[str, bool],
    resamples: int = ...,
    confidence: float = ...,
    seed: int = ...,
    method: DifferenceMethod = ...,
    strata: Strata | None = ...,
    progress: Progress | None = ...,
) -> dict[str, PairedInterval]: ...
def paired_subject_bootstrap(
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    labels: ArrayLike,
    subjects: ArrayLike,
    statistic: Statistic | Mapping[str, Statistic],
    *,
    higher_is_better: bool | Mapping[str, bool],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: DifferenceMethod = "t",
    strata: Strata | None = None,
    progress: Progress | None = None,
) -> PairedInterval | dict[str, PairedInterval]:
    """Interval of the difference of two systems on the same trials and the same resampled subjects.

    Most of what makes a figure move, an easy or a hard draw of subjects, moves both systems alike and cancels in
    `statistic(system) - statistic(baseline)`.

    Args:
        scores: (trials,) or (runs, trials) of the system.
        baseline_scores: (trials,) or (runs, trials) of the baseline; the number of runs may differ.
        labels: (trials,) bool or integer, 1 = genuine, 0 = impostor.
        subjects: (trials, 2) integers, the subject on each side.
        statistic: function of a `DetCurve`, or several by name.
        higher_is_better: True for TAR, False for error rates and costs; by the same names where statistics have names.
        resamples: number of draws, at least 2 / (1 - confidence).
        confidence: in (0, 1).
        seed: of the draws.
        method: "t", with the variance of `_intervals.py`; "percentile", quantiles of the resampled differences.
        strata: as in `subject_bootstrap`; both systems see the same draws.
        progress: as in `subject_bootstrap`.

    Returns:
        A `PairedInterval`, or a dict of them by name; `won` is 0.5 and the difference exactly 0 for equal systems.

    Raises:
        ValueError: as `subject_bootstrap`; names of `higher_is_better` that are not those of `statistic`.

    Example:
        >>> from qmargin.metrics.eer import eer_of
        >>> subjects = np.array([(i, j) for i in range(8) for j in range(i, 8)])
        >>> labels = subjects[:, 0] == subjects[:, 1]
        >>> scores = np.random.default_rng(0).normal(size=36) + labels
        >>> pair = paired_subject_bootstrap(scores + labels, scores, labels, subjects, eer_of, higher_is_better=False)
        >>> f"{pair.difference:.3f} in [{pair.low:.3f}, {pair.high:.3f}], won {pair.won:.3f}"
        '-0.170 in [-0.424, 0.085], won 0.973'

    Reference: as `subject_bootstrap`.

    See also `subject_bootstrap`.
    """
    check_method(method, get_args(DifferenceMethod))
    named = _by_name(statistic)
    better = dict(higher_is_better) if isinstance(higher_is_better, Mapping) else {_ONLY: higher_is_better}
    if set(better) != set(named):
        raise ValueError(
            f"higher_is_better must say True or False for each statistic ({', '.join(named)}), got {higher_is_better}"
        )
    plan = Plan(resamples=resamples, confidence=confidence, seed=seed, strata=strata, progress=progress)
    systems = {"scores": scores, "baseline_scores": baseline_scores}
    found = evaluate(systems, labels, subjects, reading(named), plan)
    check_finite(found, list(named))
    difference = found.estimates[0] - found.estimates[1]
    differences = found.values[0] - found.values[1]
    low, high = difference_interval(method, found.estimates, found.values, found.of_pairs, found.subjects, confidence)
    intervals = {
        name: PairedInterval(
            difference=float(difference[k]),
            low=float(low[k]),
            high=float(high[k]),
            won=float(np.mean(0.5 + 0.5 * np.sign(differences[k] if better[name] else -differences[k]))),
            confidence=confidence,
            resamples=resamples,
        )
        for k, name in enumerate(named)
    }
    return intervals if isinstance(statistic, Mapping) else intervals[_ONLY]


_ONLY = "statistic"  # the name of a statistic given without one


def reading(statistics: Mapping[str, Statistic]) -> Callable[[DetCurve], Floats]:
    """All statistics of a curve, (statistics,)."""
    functions = list(statistics.values())
    return lambda det: np.array([function(det) for function in functions])


def check_finite(found: Resamples, names: list[str]) -> None:
    """A ValueError for a statistic that is not finite on every resample."""
    for k, name in enumerate(names):
        if not all(np.isfinite(part[:, k]).all() for part in (found.estimates, found.values, found.of_pairs)):
            raise ValueError(f"{name} must be finite on every resample, got nan or inf; it cannot be bootstrapped")


def _by_name(statistic: Statistic | Mapping[str, Statistic]) -> dict[str, Statistic]:
    named = dict(statistic) if isinstance(statistic, Mapping) else {_ONLY: statistic}
    if not named or not all(callable(function) for function in named.values()):
        raise ValueError(f"statistic must be a function of a DetCurve, or a mapping of names to some, got {statistic}")
    return named
