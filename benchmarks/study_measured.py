"""What the report of a study needs of its runs, brought into small files: resamples, intervals, curves of training.

Runs stay where they are; their embeddings and logs are read here, and never again: the report is made of these files.
Resamples hold error rates and nothing of a person, so they may be kept where embeddings may not: a study whose final
runs were made on different days, or machines, still has paired intervals over all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmargin._files import make_folder, read_arrays, write_arrays
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
from study import FINAL, SCHEDULES, Run, Study, finished, finished_runs
from study_rows import LOGGED, Row

INTERVALS = ("loss", "baseline", "figure", "value", "low", "high", "won", "seeds", "resamples")
CURVES = (*LOGGED, "scale", "alpha")
CURVE_COLUMNS = ("phase", "loss", "seed", "step", "epoch", *CURVES)
POINTS = 60  # of a curve
Read = Callable[[RunFolder], Trials]
Figures = Callable[[Trials], Mapping[Figure, Statistic]]


def all_pairs_of(folder: RunFolder) -> Trials:
    """Every pair of the test images, from the embeddings that the study left."""
    return all_pairs(Embeddings.load(folder.embeddings("test")))


def curve_rows(study: Study, rows: Sequence[Row], out: Path, before: Sequence[Row] = ()) -> list[Row]:
    """Curves of the finished final runs and schedules, each of at most `POINTS` points, means of what lies between.

    Args:
        study: whose runs are read.
        rows: of its finished runs.
        out: folder of the runs.
        before: curves of a former call, taken for runs whose folder is gone.
    """
    found: list[Row] = []
    for run in finished_runs(study, rows, FINAL, SCHEDULES):
        key = {"phase": run.phase, "loss": run.loss.name, "seed": str(run.seed)}
        folder = RunFolder(out / run.folder)
        if not folder.log.exists():
            found += [row for row in before if key.items() <= row.items()]
            continue
        log = read_log(folder.log)
        names = [name for name in ("step", "epoch", *CURVES) if name in log[0]]
        values = np.array([[line[name] for name in names] for line in log])  # (lines, columns)
        for block in np.array_split(values, min(POINTS, len(values))):
            found.append(
                {**key, **{name: f"{value:.5g}" for name, value in zip(names, block.mean(axis=0), strict=True)}}
            )
    return found


def interval_rows(
    study: Study,
    rows: Sequence[Row],
    out: Path,
    baselines: Sequence[str],
    *,
    kept: Path,
    read: Read = all_pairs_of,
    figures: Figures = figures_for,
    resamples: int = 400,
) -> list[Row]:
    """Figures of each loss over its seeds with their intervals, and its paired differences to the baselines.

    They are those of `subject_bootstrap` and `paired_subject_bootstrap`, the figure averaged over the seeds; each run
    is resampled once, on the same draws as every other, and what was resampled is kept, as the runs may be gone another
    day. Told are seeds that all losses have.

    Args:
        study: whose final runs are read.
        rows: of its finished runs.
        out: folder of the runs.
        baselines: losses that others are compared with.
        kept: folder of the resamples, a small file each run: what is there is not computed again.
        read: the test trials of a run, the same for all runs.
        figures: which are told, of such trials.
        resamples: draws over subjects.

    Returns:
        Rows; none where no seed is finished.

    Raises:
        ValueError: a run has neither embeddings nor resamples, or runs were scored on different trials.
    """
    plan = Plan(resamples=resamples)
    finals = finished_runs(study, rows, FINAL)
    of_runs = {run.folder: _resampled(run, finished(rows, run) or {}, out, kept, read, figures, plan) for run in finals}
    digests = {folder: one.digest for folder, one in of_runs.items()}
    if len(set(digests.values())) > 1:
        raise ValueError(f"the runs were scored on different trials: {digests}; were images added on the way?")
    seeds = [seed for seed in study.seeds if sum(run.seed == seed for run in finals) == len(study.candidates)]
    if not seeds:
        return []
    found = {
        loss: _average([of_runs[run.folder].found for run in finals if run.loss.name == loss and run.seed in seeds])
        for loss in study.candidates
    }
    better = of_runs[finals[0].folder].better
    told: list[Row] = []
    for loss, values in found.items():
        common = {"loss": loss, "seeds": str(len(seeds)), "resamples": str(resamples)}
        for name, one in intervals_of(values, list(better), "wilson", plan).items():
            told.append({**common, "figure": name, **_cells(value=one.estimate, low=one.low, high=one.high)})
        for baseline in baselines:
            if baseline != loss:
                told += [
                    {**common, "baseline": baseline, **row}
                    for row in _differences(values, found[baseline], better, plan)
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


class Kept(NamedTuple):
    """The resamples of a run."""

    found: Resamples
    better: dict[str, bool]
    """Whether higher is better, by the name of the figure."""
    digest: str
    """Of the trials."""


ARRAYS = ("of", "digest", "names", "better", "estimates", "values", "of_pairs", "subjects")


def _resampled(run: Run, row: Row, out: Path, kept: Path, read: Read, figures: Figures, plan: Plan) -> Kept:
    """Resamples of a run: from its file, if that is of the very row and as many draws; else of its trials."""
    path, of = kept / f"{run.folder}.npz", f"{plan.resamples} {row['EER']} {row.get('loss value')} {row.get('date')}"
    if path.exists():
        saved, digest, names, better, estimates, values, of_pairs, subjects = read_arrays(
            path, *ARRAYS, what="resamples"
        )
        if str(saved) == of:
            found = Resamples(estimates, values, of_pairs, int(subjects))
            return Kept(found, dict(zip(map(str, names), map(bool, better), strict=True)), str(digest))
    told = _evaluated(run, read(RunFolder(out / run.folder)), figures, plan)
    make_folder(kept)
    write_arrays(
        path,
        of=np.array(of),
        digest=np.array(told.digest),
        names=np.array(list(told.better)),
        better=np.array(list(told.better.values())),
        estimates=told.found.estimates,
        values=told.found.values,
        of_pairs=told.found.of_pairs,
        subjects=np.array(told.found.subjects),
    )
    print(f"resampled: {run.folder}", flush=True)
    return told


def _evaluated(run: Run, trials: Trials, figures: Figures, plan: Plan) -> Kept:
    chosen = figures(trials)
    found = evaluate({run.folder: trials.scores}, trials.labels, trials.subjects, reading(by_name(chosen)), plan)
    check_finite(found, [figure.name for figure in chosen])
    return Kept(found, {figure.name: figure.higher_is_better for figure in chosen}, trials.digest)


def _average(seeds: Sequence[Resamples]) -> Resamples:
    """Of figures averaged over runs on the same draws: the average of what each run's resamples are."""
    estimates, values, of_pairs = (
        np.mean([getattr(one, name) for one in seeds], axis=0) for name in ("estimates", "values", "of_pairs")
    )
    return Resamples(estimates, values, of_pairs, seeds[0].subjects)
