"""What the studies that compare losses share: which run comes next, what was chosen, and the rows of finished runs.

A study has four phases, every loss with the same budget:

    settings    each candidate setting of each loss at one learning rate, judged on held-out training identities
    rate        the best setting of each loss at other learning rates, judged likewise
    final       the best setting and rate of each loss, trained longer on all training identities, several seeds, judged
                on the test identities; its embeddings stay in the run's folder (`embeddings-test.npz`)
    schedules   one loss at its best setting with changes of its training, one seed each, as long as the final runs, but
                with identities held out and judged on them: what is tried here has not seen the test identities

Each finished run is a row of a CSV file; a run that stands there is not trained again, and a killed one goes on from
its checkpoint, so the same command continues a study on any day. The same command started twice shares the runs between
two processes, one core each.
"""

import csv
import fcntl
import io
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from qmargin._files import make_folder, write_text
from qmargin.losses import AlphaLoss, Ramp, ScheduledLoss, SupportControl
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols.pairs import Trials
from qmargin.protocols.verification import FARS, tar_name
from qmargin.scoring import Embeddings
from qmargin.scoring.directions import unit_vectors
from qmargin.training import RunFolder, TrainConfig, train
from qmargin.training.log import read_log

TUNING, FINAL, SCHEDULES = ("settings", "rate"), "final", "schedules"
KEY = ("phase", "loss", "alpha", "scale", "margin", "learning rate", "seed", "epochs")
FIGURES = ("EER", *(tar_name(far) for far in FARS))
SPREAD = ("common direction", "effective dimensions")
SIZES = ("split", "subjects", "genuine", "impostor")
VALUE = "loss value"  # the log calls it "loss", which is the name of the loss here
LOGGED = (
    "support_size",
    "p_target",
    "zero_loss",
    "target_cosine",
    "accuracy",
    "gradient_norm",
    "prototypes_taught",
    "prototypes_effective",
)
Row = dict[str, str]
PAUSE = 5.0  # seconds until a process looks again whether the others have finished what it waits for


class NotTriedError(ValueError):
    """A choice rests on runs that have no row yet."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A change of how a loss is trained; the loss at the end of training stays what it is, but for `support`."""

    alpha: Ramp | None = None
    support: SupportControl | None = None
    head_rate: float = 1.0
    """The prototypes' learning rate as a multiple of the backbone's."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of a study."""

    phase: str
    loss: ScheduledLoss
    """Its name is that of the row."""
    rate: float
    seed: int
    epochs: int
    head_rate: float = 1.0

    @property
    def key(self) -> Row:
        """What tells it from all others."""
        final = self.loss.final
        numbers = map("{:g}".format, (final.alpha, final.scale, final.margin.m, self.rate, self.seed, self.epochs))
        return dict(zip(KEY, (self.phase, self.loss.name, *numbers), strict=True))

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "-".join(self.key.values()).replace(" ", "_")

    @property
    def split(self) -> str:
        """The identities it is judged on; only final runs see the test identities."""
        return "test" if self.phase == FINAL else "validation"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, with which budget, and how the best is told."""

    candidates: Mapping[str, Sequence[AlphaLoss]]
    """Settings by the name of the loss."""
    rate: float
    """Learning rate at which settings are compared."""
    other_rates: Sequence[float]
    seeds: Sequence[int]
    """Of the final runs; tuning and schedules take the first one."""
    tuning_epochs: int
    final_epochs: int
    judged_by: str
    """Figure whose best value on held-out identities chooses."""
    higher_is_better: bool
    varied: str
    """The loss that the variations are of."""
    variations: Mapping[str, Variation]
    """By what is added to its name; the first one should change nothing, to be what the others are compared with."""

    def planned(self, rows: Sequence[Row]) -> Iterator[Run]:
        """The runs that what is finished allows, in their order; those of `rows` are among them."""
        settings = {
            loss: [self._run("settings", loss, final, self.rate) for final in tried]
            for loss, tried in self.candidates.items()
        }
        for own in settings.values():
            yield from own
        rates: dict[str, list[Run]] = {}
        for loss, own in settings.items():
            if _all_finished(rows, own):
                best, _ = self.chosen(rows, loss, ("settings",))
                rates[loss] = [self._run("rate", loss, best, rate) for rate in self.other_rates]
                yield from rates[loss]
        tuned = {loss: self.chosen(rows, loss) for loss, own in rates.items() if _all_finished(rows, own)}
        for seed in self.seeds:
            for loss, found in tuned.items():
                yield self._run(FINAL, loss, *found, seed)
        if self.varied in tuned:
            yield from self._varied(*tuned[self.varied])

    def _varied(self, best: AlphaLoss, rate: float) -> Iterator[Run]:
        for name, change in self.variations.items():
            loss = ScheduledLoss(name=f"{self.varied} {name}", final=best, alpha=change.alpha, support=change.support)
            yield Run(
                phase=SCHEDULES,
                loss=loss,
                rate=rate,
                seed=self.seeds[0],
                epochs=self.final_epochs,
                head_rate=change.head_rate,
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of runs of each phase."""
        losses, settings, rate = len(self.candidates), *TUNING
        return {
            settings: sum(map(len, self.candidates.values())),
            rate: losses * len(self.other_rates),
            FINAL: losses * len(self.seeds),
            SCHEDULES: len(self.variations),
        }

    def _run(self, phase: str, loss: str, final: AlphaLoss, rate: float, seed: int | None = None) -> Run:
        return Run(
            phase=phase,
            loss=ScheduledLoss(name=loss, final=final),
            rate=rate,
            seed=self.seeds[0] if seed is None else seed,
            epochs=self.final_epochs if phase == FINAL else self.tuning_epochs,
        )

    def tuning_rows(self, rows: Sequence[Row], loss: str, phases: Sequence[str] = TUNING) -> list[Row]:
        """Rows that settings of a loss are chosen from."""
        epochs = str(self.tuning_epochs)
        return [row for row in rows if row["loss"] == loss and row["phase"] in phases and row["epochs"] == epochs]

    def chosen(self, rows: Sequence[Row], loss: str, phases: Sequence[str] = TUNING) -> tuple[AlphaLoss, float]:
        """The setting and learning rate of the best validation figure; of equal ones the first.

        Raises:
            NotTriedError: no run of that loss is there yet.
            ValueError: the best one is of a setting that is no candidate.
        """
        mine = self.tuning_rows(rows, loss, phases)
        if not mine:
            raise NotTriedError(f"no row of {loss} with {self.tuning_epochs} epochs: its settings were not tried yet")
        sign = 1.0 if self.higher_is_better else -1.0
        best = max(mine, key=lambda row: sign * float(row[self.judged_by]))
        wanted = tuple(best[name] for name in ("alpha", "scale", "margin"))
        for final in self.candidates[loss]:
            if tuple(f"{value:g}" for value in (final.alpha, final.scale, final.margin.m)) == wanted:
                return final, float(best["learning rate"])
        raise ValueError(f"{loss} with alpha, scale, margin {wanted} is in the CSV file, but no candidate any more")


def carry_on(
    study: Study, path: Path, columns: Sequence[str], carry_out: Callable[[Run], Row], claims: Path
) -> list[Row]:
    """Carry out the runs that have no row yet, one after the other; all rows. Each is in the file when its run ends.

    Args:
        study: the plan.
        path: CSV file of the rows.
        columns: of that file.
        carry_out: does a run, tells the cells of its row beside its key.
        claims: folder where processes that share a study say what they are at; the system forgets the claims of one
            that was killed.
    """
    make_folder(claims)
    while len(finished_runs(study, rows := read_rows(path))) < sum(study.sizes.values()):
        if not any(_carried_out(run, path, columns, carry_out, claims) for run in _missing(study, rows)):
            time.sleep(PAUSE)  # another process is at all that is possible now
    return rows


def _carried_out(run: Run, path: Path, columns: Sequence[str], carry_out: Callable[[Run], Row], claims: Path) -> bool:
    """Carry a run out, unless another process is at it or was; whether this one did."""
    with claimed(claims / run.folder) as mine:
        if not mine or finished(read_rows(path), run) is not None:
            return False
        told = carry_out(run)
        if told.keys() & run.key.keys():
            raise ValueError(f"a run's figures must not be named as its key is: {sorted(told.keys() & run.key.keys())}")
        row = {**run.key, **told}
        with claimed(claims / "rows", wait=True):
            write_rows(path, columns, [*read_rows(path), row])
    shown = dict.fromkeys((*KEY, "EER", *(name for name in row if name.startswith("TAR")), "minutes"))
    print("  ".join(f"{name} {row.get(name, '')}" for name in shown), flush=True)
    return True


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the file for this process; False where another one holds it, or with `wait` once it does not any more."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def trained(run: Run, config: TrainConfig, out: Path, judge: Callable[[RunFolder], Row]) -> Row:
    """Train a run, or go on with it, and judge it: the cells of its row beside its key.

    Minutes are those of this process, since its last start.
    """
    began = time.perf_counter()
    folder = train(config, out / run.folder, resume=True, title=f"{run.phase}: {run.folder}")
    return {
        "split": run.split,
        **judge(folder),
        **last_logged(folder),
        "precision": config.precision,
        "minutes": f"{(time.perf_counter() - began) / 60:.1f}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
    }


def finished(rows: Sequence[Row], run: Run) -> Row | None:
    """The row of a run, where there is one."""
    return next((row for row in rows if all(row[name] == value for name, value in run.key.items())), None)


def finished_runs(study: Study, rows: Sequence[Row], *phases: str) -> list[Run]:
    """The runs of some phases, of all where none is named, that have a row, in their order."""
    return [
        run for run in study.planned(rows) if (not phases or run.phase in phases) and finished(rows, run) is not None
    ]


def _missing(study: Study, rows: Sequence[Row]) -> list[Run]:
    return [run for run in study.planned(rows) if finished(rows, run) is None]


def _all_finished(rows: Sequence[Row], runs: Sequence[Run]) -> bool:
    return all(finished(rows, run) is not None for run in runs)


def figures(trials: Trials) -> Row:
    """Error rates of scored trials and what they rest on, as cells of a row."""
    det = det_curve(trials.scores, trials.labels)
    row = {"subjects": str(len(np.unique(trials.subjects))), "genuine": str(int(det.genuine))}
    row |= {"impostor": str(int(det.impostor)), "EER": f"{eer_of(det):.5f}"}
    return row | {tar_name(far): f"{tar_at_far_of(det, far).tar:.5f}" for far in FARS if far * det.impostor >= 1.0}


def spread(embeddings: Embeddings) -> Row:
    """How far embeddings spread out, as cells of a row: why strangers look alike where training went wrong.

    "common direction": the norm of the mean of the unit embeddings, in [0, 1]. "effective dimensions": (sum l)^2 /
    sum l^2 of the eigenvalues l of their covariance, in [1, dim].
    """
    unit = unit_vectors(embeddings.vectors).astype(np.float64)  # (samples, dim)
    values = np.linalg.eigvalsh(np.cov(unit.T))  # (dim,)
    sizes = (np.linalg.norm(unit.mean(axis=0)), values.sum() ** 2 / np.square(values).sum())
    return {name: f"{size:.4f}" for name, size in zip(SPREAD, sizes, strict=True)}


def last_logged(run: RunFolder) -> Row:
    """What the last line of a log says, as cells of a row; logs of before have no prototypes."""
    last = read_log(run.log)[-1]
    return {VALUE: f"{last['loss']:.5g}", **{name: f"{last[name]:.5g}" for name in LOGGED if name in last}}


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows, atomically; what a row does not have is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
