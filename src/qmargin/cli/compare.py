"""`qmargin compare RUN... --baseline NAME`."""

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console

import qmargin
from qmargin._files import make_folder
from qmargin.cli._resamples import check_resamples, resampling_bar
from qmargin.cli._results import say_saved
from qmargin.losses import NoMargin, ScheduledLoss
from qmargin.metrics import Method
from qmargin.protocols import Comparison, ScoredRun, Trials, compare
from qmargin.report import comparison_table, comparison_tables, write_report, write_results
from qmargin.report.comparison_table import comparison_record
from qmargin.report.curve_plots import curves_of, write_curves
from qmargin.training import RunFolder
from qmargin.training.codec import HARMLESS, flatten
from qmargin.training.log import read_log


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare evaluated runs: one row a loss (seeds averaged), paired intervals against the baseline, an HTML page."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of evaluated runs."""
    baseline: str
    """Name of the loss that the others are compared with."""
    split: str = "test"
    """Which evaluation of the runs: test, validation, or test-same-gender after qmargin evaluate --same gender."""
    out: Path = Path("report.html")
    """The page to write; its tables stand beside it, of the same name, as .md, .tex, .csv and .json."""
    resamples: int = 1000
    """Bootstrap draws over subjects."""
    interval: Method = "wilson"
    """How intervals of single figures are made of the draws; percentile ones are too narrow near 0 and 1."""


def run(words: Sequence[str]) -> None:
    """Put runs side by side: means and spread over seeds, paired intervals, and one self-contained HTML page."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin compare")
    check_resamples(arguments.resamples)
    make_folder(arguments.out.parent)
    comparison = build(
        arguments.runs,
        arguments.baseline,
        split=arguments.split,
        resamples=arguments.resamples,
        method=arguments.interval,
        command=f"qmargin compare {shlex.join(words)}",
    )
    show(comparison, arguments.out)


def show(comparison: Comparison, page: Path) -> None:
    """Print the table, write the page, say where it is."""
    console = Console()
    console.print(comparison_table(comparison))
    for note in comparison.notes:
        console.print(f"- {note}", style="dim", markup=False, highlight=False)
    files = write_results(
        page.parent, page.stem, comparison_tables(comparison), comparison_record(comparison), page=False
    )
    say_saved(files + write_curves(page.parent, page.stem, curves_of(comparison), comparison.baseline))
    write_report(comparison, page)
    console.print(f"\nreport: {page} (open it in a browser)", soft_wrap=True, markup=False)


def build(
    paths: Sequence[Path],
    baseline: str,
    *,
    split: str,
    resamples: int,
    command: str,
    method: Method = "wilson",
    title: str = "Comparison of verification losses",
    notes: Sequence[str] = (),
) -> Comparison:
    """Read evaluated runs and compare them; runs of one loss name are seeds of one system."""
    runs = [_read(path, split) for path in paths]
    differing = _differing_field(runs)
    systems = len({run.system for run in runs})
    with resampling_bar(resamples, passes=2 * systems - 1) as progress:
        return compare(
            runs,
            baseline,
            differing_field=differing,
            title=title,
            provenance=provenance(command),
            notes=(*notes, *_fairness_notes(runs, differing)),
            resamples=resamples,
            method=method,
            progress=progress,
        )


def _read(path: Path, split: str) -> ScoredRun:
    folder = RunFolder(path)
    config = folder.read_config()
    rows = read_log(folder.log) if folder.log.exists() else []
    trials = Trials.load(folder.scores(split))
    if not rows or rows[-1]["step"] != trials.step:
        ends = f"ends at step {rows[-1]['step']:g}" if rows else "is empty"
        raise ValueError(
            f"the scores of {path} are of training step {trials.step}, its log {ends}: finish training with qmargin "
            "train --resume, then run qmargin evaluate on it again"
        )
    return ScoredRun(
        path=str(path),
        seed=config.seed,
        system=config.loss.name,
        setting=loss_text(config.loss),
        settings={name: value for name, value in flatten(config).items() if name not in HARMLESS},
        trials=trials,
        support_steps=[row["step"] for row in rows],
        support=[row["support_size"] for row in rows],
    )


def loss_text(loss: ScheduledLoss) -> str:
    """A loss in a few words: `alpha 1.5, scale 6, ReferenceMargin(0.1), alpha from 1 over 0 % to 50 % of training`."""
    final = loss.final
    words = [f"alpha {final.alpha:g}", f"scale {final.scale:g}"]
    if not isinstance(final.margin, NoMargin):
        words.append(f"{type(final.margin).__name__}({final.margin.m:g})")
    for name, ramp in (("alpha", loss.alpha), ("scale", loss.scale), ("margin", loss.margin)):
        if ramp is not None:
            words.append(f"{name} from {ramp.start:g} over {ramp.begin:.0%} to {ramp.end:.0%} of training")
    return ", ".join(words)


def _differing_field(runs: Sequence[ScoredRun]) -> str:
    """The one top-level field, seed and name aside, in which the runs differ; "" where there is none or several."""
    names = {name for run in runs for name in run.settings}
    changed = {name.split(".")[0] for name in names if len({run.settings.get(name) for run in runs}) > 1} - {"seed"}
    return changed.pop() if len(changed) == 1 else ""


def _fairness_notes(runs: Sequence[ScoredRun], differing: str) -> list[str]:
    if differing or len({run.system for run in runs}) == 1:
        return []
    return ["These runs differ in more than one field: a difference between rows need not come from the loss."]


def provenance(command: str) -> dict[str, str]:
    """What was run, where and when."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "versions": f"qmargin {qmargin.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}",
    }
