"""`qmargin evaluate RUN [--split test|validation]`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qmargin.protocols import VerificationReport, all_pairs, verify
from qmargin.protocols.verification import FEW_FALSE_ACCEPTS, MIN_DCF
from qmargin.scoring import embed_run
from qmargin.training import RunFolder

FEWEST_RESAMPLES = 40  # so that each tail of a 95 % interval holds one
MUCH_BIAS = 0.25  # of an interval's width: how far resamples may lie from the figure before the table says so
Split = Literal["test", "validation", "train"]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed a run's held-out identities, score every pair of images, print and save the figures."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    split: Split = "test"
    """Which identities: choose settings on validation, report test once."""
    resamples: int = 1000
    """Bootstrap draws over subjects, for the 95 % intervals."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """Judge a run on held-out identities: TAR at low FAR, EER and minDCF with intervals over subjects."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin evaluate")
    folder = RunFolder(arguments.run)
    report = evaluate(folder, arguments.split, arguments.resamples, arguments.device)
    console = Console()
    console.print(report_table(report, escape(f"{folder.path}, split {arguments.split}")))
    console.print(f"saved: {folder.metrics(arguments.split)}", soft_wrap=True, markup=False)


def evaluate(folder: RunFolder, split: str, resamples: int, device: str | None = None) -> VerificationReport:
    """Embeddings, scores and figures of a run, each left in its folder."""
    check_resamples(resamples)
    trials = all_pairs(embed_run(folder, split, device))
    trials.save(folder.scores(split))
    report = verify(trials, resamples=resamples)
    report.save(folder.metrics(split))
    return report


def check_resamples(resamples: int) -> None:
    """Refuse too few draws before hours of work, not after."""
    if resamples < FEWEST_RESAMPLES:
        raise ValueError(f"--resamples must be at least {FEWEST_RESAMPLES} for a 95 % interval, got {resamples}")


def report_table(report: VerificationReport, title: str) -> Table:
    """The figures of one run as a table."""
    counts = f"{report.subjects} subjects, {report.genuine:,} genuine and {report.impostor:,} impostor pairs"
    table = Table(title=title, caption=counts, title_justify="left", caption_justify="left")
    for column in ("figure", "value", "95 % interval over subjects", "false accepts", "threshold"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, interval in report.figures.items():
        doubt = " (biased!)" if abs(interval.bias) > MUCH_BIAS * (interval.high - interval.low) else ""
        accepts = report.false_accepts.get(name)
        mark = " (few!)" if accepts is not None and accepts < FEW_FALSE_ACCEPTS else ""
        table.add_row(
            name,
            _text(name, interval.estimate),
            f"{_text(name, interval.low)} to {_text(name, interval.high)}{doubt}",
            "" if accepts is None else f"{accepts}{mark}",
            f"{report.thresholds[name]:.4f}" if name in report.thresholds else "",
        )
    return table


def _text(name: str, value: float) -> str:
    """A cost as it stands, a share in percent."""
    return f"{value:.3f}" if name == MIN_DCF else f"{100 * value:.2f} %"
