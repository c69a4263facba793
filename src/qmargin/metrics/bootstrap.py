"""Intervals that say how far a figure would move with other subjects: a bootstrap over subjects, not over trials.

Conventions:
    Trials that share a subject are not independent, so subjects are what is drawn, as many as there are, with
    replacement. A subject drawn w_i times stands for w_i different people who happen to be alike: each brings its own
    genuine trials, so these weigh w_i; and each of the w_i copies of i meets each of the w_j copies of j, so an
    impostor trial weighs w_i w_j (the vertex bootstrap). Copies of one subject do not meet each other: no such trial
    was scored.
    Intervals are percentile intervals (linear quantiles of the resamples), or by "wilson" those of `_intervals.py`: for
    single figures in [0, 1] they hold better. Lists of more than 400,000 trials are resampled on a grid of thresholds
    (`_grid.py`): the same draws, rates exact at each of them. With several runs (seeds) of one system the
    statistic is averaged over the runs, on the same draws; the interval is about subjects, not about seeds.
    Figures never refuse a resample for having too few impostors; on the trials as given they do.

How far to trust them: paired differences most. The interval of a single figure is too narrow where the figure is close
to 0 or 1, with few subjects, and for a cost such as minDCF: a least value over thresholds reads too low where few false
accepts decide it, and `Interval.bias` shows that. `benchmarks/bootstrap_coverage.py` counts how often they hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from qmargin.metrics._intervals import Method, check_method, percentiles, wilson
from qmargin.metrics._resampling import Statistic, evaluate
from qmargin.metrics._validate import Floats, Scores, check_labels, check_scores


@dataclass(frozen=True)
class Interval:
    """A figure on the trials as they are, and the interval of its resamples."""

    estimate: float
    low: float
    high: float
    confidence: float  # share of the resamples inside, e.g. 0.95
    resamples: int
    bias: float  # mean of the resamples minus `estimate`; not small against the interval: do not trust the interval


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
    method: Method = "percentile",
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
        method: "percentile", for any figure; "wilson", for error rates and costs in [0, 1]: holds better near 0 and 1.
        seed: of the draws; the same seed gives the same interval, whatever the order of the trials.

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
        '0.268 in [0.000, 0.530]'

    Reference: Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics", 1999; for
    verification Fogliato, Patil and Perona, "Confidence intervals for error rates in 1:1 matching tasks", 2024.

    See also `paired_subject_bootstrap`, the one to use when two systems were scored on the same trials.
    """
    named = _by_name(statistic)
    check_method(method)
    estimates, values = _evaluate([scores], ["scores"], labels, subjects, named, resamples, confidence, seed)
    if method == "wilson":
        people = np.unique(np.asarray(subjects)).size
        pairs = zip(estimates[0].tolist(), values[0], strict=True)
        low, high = np.array([wilson(figure, row, people, confidence) for figure, row in pairs]).T
    else:
        low, high = percentiles(values[0], confidence)
    intervals = {
        name: Interval(
            estimate=float(estimates[0, k]),
            low=float(low[k]),
            high=float(high[k]),
            confidence=confidence,
            resamples=resamples,
            bias=float(values[0, k].mean() - estimates[0, k]),
        )
        for k, name in enumerate(named)
    }
    return intervals if isinstance(statistic, Mapping) else intervals[_ONLY]


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
        '-0.170 in [-0.500, 0.000], won 0.973'

    Reference: as `subject_bootstrap`.

    See also `subject_bootstrap`.
    """
    named = _by_name(statistic)
    better = dict(higher_is_better) if isinstance(higher_is_better, Mapping) else {_ONLY: higher_is_better}
    if set(better) != set(named):
        raise ValueError(
            f"higher_is_better must say True or False for each statistic ({', '.join(named)}), got {higher_is_better}"
        )
    estimates, values = _evaluate(
        [scores, baseline_scores], ["scores", "baseline_scores"], labels, subjects, named, resamples, confidence, seed
    )
    differences = values[0] - values[1]
    low, high = percentiles(differences, confidence)
    intervals = {
        name: PairedInterval(
            difference=float(estimates[0, k] - estimates[1, k]),
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


def _by_name(statistic: Statistic | Mapping[str, Statistic]) -> dict[str, Statistic]:
    named = dict(statistic) if isinstance(statistic, Mapping) else {_ONLY: statistic}
    if not named or not all(callable(function) for function in named.values()):
        raise ValueError(f"statistic must be a function of a DetCurve, or a mapping of names to some, got {statistic}")
    return named


def _evaluate(
    systems: list[ArrayLike],
    names: list[str],
    labels: ArrayLike,
    subjects: ArrayLike,
    statistics: dict[str, Statistic],
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[Floats, Floats]:
    """Check everything, then estimates (systems, statistics) and values (systems, statistics, resamples)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be a share in (0, 1), got {confidence}; 95 % is 0.95")
    needed = 2.0 / (1.0 - confidence)
    if resamples < needed * (1.0 - 1e-9):
        raise ValueError(
            f"a confidence of {confidence} needs at least {needed:.0f} resamples, so that each tail holds one, "
            f"got {resamples}; 1000 is usual"
        )
    genuine = check_labels(labels)
    runs = [_check_runs(scores, genuine.size, name) for scores, name in zip(systems, names, strict=True)]
    estimates, values = evaluate(runs, genuine, subjects, list(statistics.values()), resamples, seed)
    for k, name in enumerate(statistics):
        if not (np.isfinite(estimates[:, k]).all() and np.isfinite(values[:, k]).all()):
            raise ValueError(f"{name} must be finite on every resample, got nan or inf; it cannot be bootstrapped")
    return estimates, values


def _check_runs(scores: ArrayLike, trials: int, name: str) -> list[Scores]:
    given = np.asarray(scores)
    if given.ndim != 2:
        return [check_scores(given, trials, name)]
    if len(given) == 0:
        raise ValueError(f"{name} must hold at least one run, got shape {given.shape}")
    return [check_scores(run, trials, f"{name} of run {number}") for number, run in enumerate(given)]
