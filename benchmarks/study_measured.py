"""What the report of a study needs of its runs, brought into two small CSV files: intervals, and curves of training.

Runs stay where they are; their embeddings and logs are read here, and never again: the report is made of CSV files.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qmargin._files import read_arrays, write_arrays
from qmargin.metrics import Statistic
from qmargin.metrics._intervals import difference_interval
from qmargin.metrics._resampling import Plan, Resamples, evaluate
from qmargin.metrics.bootstrap import check_finite, intervals_of, reading
from qmargin.protocols import all_pairs
from qmargin.protocols.comparison import Figure
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import by_name, figures_for
from qmargin.scoring import Embeddings
from qmargin.training import RunFolder
from qmargin.training.log import read_log
from study import FINAL, LOGGED, SCHEDULES, Row, Study, finished_runs

INTERVALS = ("loss", "baseline", "figure", "value", "low", "high", "won", "seeds", "resamples")
CURVES = (*LOGGED, "scale", "alpha")
CURVE_COLUMNS = ("phase", "loss", "seed", "step", "epoch", *CURVES)
POINTS = 60  # of a curve
Read = Callable[[RunFolder], Trials]
Figures = Callable[[Trials], Mapping[Figure, Statistic]]


def all_pairs_of(folder: RunFolder) -> Trials:
    """Every pair of the test images, from the embeddings that the study left."""
    return all_pairs(Embeddings.load(folder.embeddings("test")))


def curve_rows(study: Study, rows: Sequence[Row], out: Path) -> list[Row]:
    """Curves of the finished final runs and schedules, each of at most `POINTS` points, means of what lies between."""
    found = []
    for run in finished_runs(study, rows, FINAL, SCHEDULES):
        log = read_log((RunFolder(out / run.folder)).log)
        names = [name for name in ("step", "epoch", *CURVES) if name in log[0]]
        values = np.array([[line[name] for name in names] for line in log])  # (lines, columns)
        for block in np.array_split(values, min(POINTS, len(values))):
            cells = {name: f"{value:.5g}" for name, value in zip(names, block.mean(axis=0), strict=True)}
            found.append({"phase": run.phase, "loss": run.loss.name, "seed": str(run.seed), **cells})
    return found


def interval_rows(
    study: Study,
    rows: Sequence[Row],
    out: Path,
    baselines: Sequence[str],
    *,
    read: Read = all_pairs_of,
    figures: Figures = figures_for,
    resamples: int = 400,
) -> list[Row]:
    """Figures of each loss over its seeds with their intervals, and its paired differences to the baselines.

    They are those of `subject_bootstrap` and `paired_subject_bootstrap`, the figure averaged over the seeds; each loss
    is resampled once, on the same draws as every other, instead of once for each difference.

    Args:
        study: whose final runs are read.
        rows: of its finished runs.
        out: folder of the runs; `resamples-LOSS.npz` is left there, so that a stopped command goes on.
        baselines: losses that others are compared with.
        read: the test trials of a run, the same for all runs.
        figures: which are told, of such trials.
        resamples: draws over subjects.

    Raises:
        ValueError: a final run is missing, or runs were scored on different trials.
    """
    plan = Plan(resamples=resamples)
    runs = {
        loss: [run for run in finished_runs(study, rows, FINAL) if run.loss.name == loss] for loss in study.candidates
    }
    for loss, own in runs.items():
        if len(own) < len(study.seeds):
            raise ValueError(f"{loss} has {len(own)} of {len(study.seeds)} final runs: let the study end first")
    found, digests = {}, {}
    for loss, own in runs.items():
        found[loss], digests[loss] = _resampled(
            loss, [RunFolder(out / run.folder) for run in own], out, read, figures, plan
        )
        print(f"resampled: {loss}", flush=True)
    if len(set(digests.values())) > 1:
        raise ValueError(f"the runs were scored on different trials: {digests}; were images added on the way?")
    better = dict(next(iter(found.values()))[1])
    told: list[Row] = []
    for loss, (values, _) in found.items():
        common = {"loss": loss, "seeds": str(len(study.seeds)), "resamples": str(resamples)}
        for name, one in intervals_of(values, list(better), "wilson", plan).items():
            told.append({**common, "figure": name, **_cells(value=one.estimate, low=one.low, high=one.high)})
        for baseline in baselines:
            if baseline != loss:
                told += [
                    {**common, "baseline": baseline, **row}
                    for row in _differences(values, found[baseline][0], better, plan)
                ]
    return told


def _differences(system: Resamples, baseline: Resamples, better: Mapping[str, bool], plan: Plan) -> list[Row]:
    """As `paired_subject_bootstrap`, of resamples on the same draws."""
    pair = [
        np.concatenate([getattr(one, name) for one in (system, baseline)])
        for name in ("estimates", "values", "of_pairs")
    ]
    estimates, values, of_pairs = pair  # (2, figures, ...)
    low, high = difference_interval("t", estimates, values, of_pairs, system.subjects, plan.confidence)
    rows = []
    for k, (name, higher) in enumerate(better.items()):
        gain = (values[0, k] - values[1, k]) * (1.0 if higher else -1.0)
        cells = _cells(
            value=float(estimates[0, k] - estimates[1, k]),
            low=float(low[k]),
            high=float(high[k]),
            won=float(np.mean(0.5 + 0.5 * np.sign(gain))),
        )
        rows.append({"figure": name, **cells})
    return rows


def _cells(**numbers: float) -> Row:
    return {name: f"{number:.6f}" for name, number in numbers.items()}


def _resampled(
    loss: str, folders: Sequence[RunFolder], out: Path, read: Read, figures: Figures, plan: Plan
) -> tuple[tuple[Resamples, dict[str, bool]], str]:
    """Resamples of a loss with whether higher is better, by the name of the figure, and the digest of its trials."""
    trials = [read(folder) for folder in folders]
    if len({one.digest for one in trials}) > 1:
        raise ValueError(f"the runs of {loss} were scored on different trials; were images added on the way?")
    chosen = figures(trials[0])
    better = {figure.name: figure.higher_is_better for figure in chosen}
    scores = np.stack([one.scores for one in trials])  # (seeds, trials)
    kept = out / f"resamples-{loss.replace(' ', '_')}.npz"
    state = hashlib.sha256(
        scores.tobytes() + f"{trials[0].digest} {plan.resamples} {plan.seed} {list(better)}".encode()
    ).hexdigest()
    names = ("state", "estimates", "values", "of_pairs", "subjects")
    if kept.exists():
        saved, estimates, values, of_pairs, subjects = read_arrays(kept, *names, what="resamples")
        if str(saved) == state:
            return (Resamples(estimates, values, of_pairs, int(subjects)), better), trials[0].digest
    found = evaluate({loss: scores}, trials[0].labels, trials[0].subjects, reading(by_name(chosen)), plan)
    check_finite(found, list(better))
    arrays = (np.array(state), found.estimates, found.values, found.of_pairs, np.array(found.subjects))
    write_arrays(kept, **dict(zip(names, arrays, strict=True)))
    return (found, better), trials[0].digest
