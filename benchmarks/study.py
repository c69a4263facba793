"""What the studies that compare losses share: which run comes next, and what was chosen.

A study has these phases, every loss with the same budget:

    settings    each candidate setting of each loss at one learning rate, judged on held-out training identities
    around      the best setting of each loss at other learning rates, and with other margins, judged likewise
    final       the best of all these of each loss, trained longer on all training identities, several seeds, judged
                on the test identities; its embeddings stay in the run's folder (`embeddings-test.npz`)
    schedules   one loss at its best setting with changes of its training, one seed each, as long as the final runs, but
                with identities held out and judged on them: what is tried here has not seen the test identities
    lengths     some losses at their best settings, one seed each, for other numbers of epochs, judged likewise
    one rate    final runs of some losses once more, with the last seed, at a learning rate that was not their best but
                that of others: it tells a difference between losses from one between their rates

Each finished run is a row of a CSV file; a run that stands there is not trained again, and a killed one goes on from
its checkpoint, so the same command continues a study on any day. The same command started twice shares the runs between
two processes, one core each (`study_running.py`; `study_rows.py` has the rows).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qmargin.losses import AlphaLoss, Ramp, ScheduledLoss, SupportControl
from study_rows import KEY, Row

TUNING, FINAL, SCHEDULES, LENGTHS = ("settings", "around"), "final", "schedules", "lengths"
ONE_RATE = "one rate"
ON_TEST = (FINAL, ONE_RATE)  # phases that train on all training identities and are judged on the test identities


class NotTriedError(ValueError):
    """A choice rests on runs that have no row yet."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A change of how a loss is trained; at the end it is what it was but for `support` and `sharper`."""

    alpha: Ramp | None = None
    support: SupportControl | None = None
    sharper: float = 1.0
    """The scale at the end as a multiple of the chosen one, from which it rises on a straight line."""
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
        """The identities it is judged on."""
        return "test" if self.phase in ON_TEST else "validation"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, with which budget, and how the best is told."""

    candidates: Mapping[str, Sequence[AlphaLoss]]
    """Settings by the name of the loss."""
    rate: float
    """Learning rate at which settings are compared."""
    other_rates: Sequence[float]
    other_margins: Sequence[float]
    """Tried with losses that have a margin."""
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
    lengths: Sequence[int] = ()
    """Epochs that the losses of `of_lengths` are trained for."""
    of_lengths: Sequence[str] = ()
    one_rate: float = 0.0
    """Learning rate that the losses of `of_one_rate` are trained at in the end, whichever was chosen."""
    of_one_rate: Sequence[str] = ()

    def planned(self, rows: Sequence[Row]) -> Iterator[Run]:
        """The runs that what is finished allows, in their order; those of `rows` are among them."""
        settings = {
            loss: [self._run("settings", loss, final, self.rate) for final in tried]
            for loss, tried in self.candidates.items()
        }
        for own in settings.values():
            yield from own
        around: dict[str, list[Run]] = {}
        for loss, own in settings.items():
            if _all_finished(rows, own):
                best, _ = self.chosen(rows, loss, ("settings",))
                around[loss] = [
                    *(self._run("around", loss, best, rate) for rate in self.other_rates),
                    *(self._run("around", loss, other, self.rate) for other in self._other_margins(best)),
                ]
                yield from around[loss]
        tuned = {loss: self.chosen(rows, loss) for loss, own in around.items() if _all_finished(rows, own)}
        yield from self._after_tuning(tuned)

    def _after_tuning(self, tuned: Mapping[str, tuple[AlphaLoss, float]]) -> Iterator[Run]:
        for seed in self.seeds:
            for loss, found in tuned.items():
                yield self._run(FINAL, loss, *found, seed)
        if self.varied in tuned:
            yield from self._varied(*tuned[self.varied])
        for epochs in self.lengths:
            for loss in filter(tuned.__contains__, self.of_lengths):
                yield replace(self._run(LENGTHS, loss, *tuned[loss]), epochs=epochs)
        for loss in filter(tuned.__contains__, self.of_one_rate):
            final, rate = tuned[loss]
            if rate != self.one_rate:
                yield self._run(ONE_RATE, loss, final, self.one_rate, self.seeds[-1])

    def _other_margins(self, final: AlphaLoss) -> list[AlphaLoss]:
        if final.margin.m == 0.0:
            return []
        return [replace(final, margin=replace(final.margin, m=m)) for m in self.other_margins]

    def _varied(self, best: AlphaLoss, rate: float) -> Iterator[Run]:
        for name, change in self.variations.items():
            loss = ScheduledLoss(
                name=f"{self.varied} {name}",
                final=replace(best, scale=change.sharper * best.scale),
                alpha=change.alpha,
                scale=Ramp(start=best.scale) if change.sharper != 1.0 else None,
                support=change.support,
            )
            yield Run(
                phase=SCHEDULES,
                loss=loss,
                rate=rate,
                seed=self.seeds[0],
                epochs=self.final_epochs,
                head_rate=change.head_rate,
            )

    def sizes(self, rows: Sequence[Row]) -> dict[str, int]:
        """Number of runs of each phase; how many are of "one rate" is told by what was chosen."""
        losses, (settings, around) = len(self.candidates), TUNING
        with_margin = sum(bool(self._other_margins(tried[0])) for tried in self.candidates.values())
        sizes = {
            settings: sum(map(len, self.candidates.values())),
            around: losses * len(self.other_rates) + with_margin * len(self.other_margins),
            FINAL: losses * len(self.seeds),
            SCHEDULES: len(self.variations),
            LENGTHS: len(self.lengths) * len(self.of_lengths),
            ONE_RATE: sum(run.phase == ONE_RATE for run in self.planned(rows)),
        }
        return {phase: size for phase, size in sizes.items() if size}

    def _run(self, phase: str, loss: str, final: AlphaLoss, rate: float, seed: int | None = None) -> Run:
        return Run(
            phase=phase,
            loss=ScheduledLoss(name=loss, final=final),
            rate=rate,
            seed=self.seeds[0] if seed is None else seed,
            epochs=self.final_epochs if phase in ON_TEST else self.tuning_epochs,
        )

    def tuning_rows(self, rows: Sequence[Row], loss: str, phases: Sequence[str] = TUNING) -> list[Row]:
        """Rows that settings of a loss are chosen from."""
        epochs = str(self.tuning_epochs)
        return [row for row in rows if row["loss"] == loss and row["phase"] in phases and row["epochs"] == epochs]

    def best(self, rows: Sequence[Row], loss: str, phases: Sequence[str] = TUNING) -> Row:
        """The tuning row of a loss with the best validation figure; of equal ones the first.

        Raises:
            NotTriedError: there is none yet.
        """
        mine = self.tuning_rows(rows, loss, phases)
        if not mine:
            raise NotTriedError(f"no row of {loss} with {self.tuning_epochs} epochs: its settings were not tried yet")
        sign = 1.0 if self.higher_is_better else -1.0
        return max(mine, key=lambda row: sign * float(row[self.judged_by]))

    def chosen(self, rows: Sequence[Row], loss: str, phases: Sequence[str] = TUNING) -> tuple[AlphaLoss, float]:
        """The setting and learning rate of the best row.

        Raises:
            NotTriedError: no run of that loss is there yet.
            ValueError: the best one is of a setting that is no candidate.
        """
        best = self.best(rows, loss, phases)
        wanted = tuple(best[name] for name in ("alpha", "scale", "margin"))
        tried = self.candidates[loss]
        for final in (*tried, *(other for one in tried for other in self._other_margins(one))):
            if tuple(f"{value:g}" for value in (final.alpha, final.scale, final.margin.m)) == wanted:
                return final, float(best["learning rate"])
        raise ValueError(f"{loss} with alpha, scale, margin {wanted} is in the CSV file, but no candidate any more")


def finished(rows: Sequence[Row], run: Run) -> Row | None:
    """The row of a run, where there is one."""
    return next((row for row in rows if all(row[name] == value for name, value in run.key.items())), None)


def finished_runs(study: Study, rows: Sequence[Row], *phases: str) -> list[Run]:
    """The runs of some phases, of all where none is named, that have a row, in their order."""
    return [
        run for run in study.planned(rows) if (not phases or run.phase in phases) and finished(rows, run) is not None
    ]


def _all_finished(rows: Sequence[Row], runs: Sequence[Run]) -> bool:
    return all(finished(rows, run) is not None for run in runs)
