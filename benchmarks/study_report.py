"""The page of a study's results, in Markdown, from its CSV files alone: settings, error rates, differences, why.

What stands above the line `MARK` in an existing page was written by hand, and stays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmargin._files import make_folder, write_text
from qmargin.report._markdown import grid, markdown_text
from study import FINAL, LENGTHS, ONE_RATE, SCHEDULES, TUNING, Study
from study_plots import write_plots
from study_rows import FIGURES, Row, of_phase

MARK = "<!-- written by a script from here on; what stands above is kept -->"


class End(NamedTuple):
    """How a column of the last lines of the logs is shown."""

    heading: str
    digits: int
    factor: float = 1.0


ENDS = {
    "support_size": End("support (classes)", 1),
    "p_target": End("p of the label", 3),
    "zero_loss": End("rows of zero loss (%)", 1, 100.0),
    "target_cosine": End("cosine, own prototype", 3),
    "accuracy": End("accuracy (%)", 1, 100.0),
    "gradient_norm": End("gradient norm, backbone", 3),
    "prototypes_taught": End("prototypes taught", 0),
    "prototypes_effective": End("their effective number", 0),
    "effective dimensions": End("effective dimensions, test", 1),
    "common direction": End("common direction, test", 3),
}


def write_report(
    path: Path,
    study: Study,
    rows: Sequence[Row],
    intervals: Sequence[Row],
    curves: Sequence[Row],
    *,
    title: str,
    about: str,
    baselines: Sequence[str],
) -> None:
    """Write the page and its plots beside it.

    Args:
        path: of the page.
        study: what was planned.
        rows: of the finished runs.
        intervals: of `study_measured.interval_rows`; none while final runs are missing.
        curves: of `study_measured.curve_rows`.
        title: of a new page.
        about: a paragraph on what was done, and the commands.
        baselines: losses that others were compared with.

    Raises:
        ValueError: the page is there, without `MARK`.
    """
    make_folder(path.parent)
    plots = write_plots(path.parent, path.stem, study, rows, intervals, curves, baselines)
    parts = [
        f"{about}\n\n{_extent(study, rows)}",
        _section("Settings chosen", SETTINGS_TEXT, _settings(study, rows), plots.get("settings")),
        _section("Every scale that was tried", SCALES_TEXT, _scales(study, rows)),
        _section("Error rates", FIGURES_TEXT, _figures(study, rows), plots.get("tar")),
        *(
            _section(f"Differences to {one}", DIFFERENCES_TEXT, _differences(study, rows, intervals, one))
            for one in baselines
        ),
        _section("Differences, drawn", "Filled: the interval excludes 0.", "", plots.get("differences")),
        _section("What training did", TRAINING_TEXT, _ends(rows), plots.get("training")),
        _section(
            f"Schedules of {study.varied}", SCHEDULES_TEXT, _single(of_phase(rows, SCHEDULES)), plots.get("schedules")
        ),
        _section("Length of training", LENGTHS_TEXT, _single(of_phase(rows, LENGTHS), "epochs")),
        _section("At one learning rate", ONE_RATE_TEXT, _single(_at_one_rate(study, rows), "learning rate")),
    ]
    kept, mark, _ = (path.read_text(encoding="utf-8") if path.exists() else f"# {title}\n\n{MARK}").partition(MARK)
    if not mark:
        raise ValueError(f"{path} has not the line {MARK!r}: put it below what was written by hand, or remove the page")
    write_text(path, f"{kept}{MARK}\n\n" + "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n")


SETTINGS_TEXT = (
    "The best of the settings tried, by the figure of the last column on held-out training identities; in brackets the "
    "worst and the best of all that were tried. In the plot scales at the first learning rate are filled, the best "
    "ones with another rate or margin hollow."
)
SCALES_TEXT = (
    "At the first learning rate and margin, one seed, held-out training identities: the figure that chooses, the EER, "
    "both in percent, and the mean support at the end."
)
FIGURES_TEXT = "Test identities, percent: mean ± standard deviation over the seeds. Bars of the plot: all seeds."
DIFFERENCES_TEXT = (
    "Percentage points, [95 % interval of the paired bootstrap over test identities, figures averaged over the seeds]; "
    "✓ the interval excludes 0; ~ but the difference is no larger than the standard deviation over the seeds of one of "
    "the two. Within noise is what is not marked, or marked ~."
)
TRAINING_TEXT = (
    "The last lines of the logs of the final runs, mean over the seeds; docs/definitions.md says what the columns are. "
    "The last two are of the embeddings of the test identities: (sum l)^2 / sum l^2 of the eigenvalues l of their "
    "covariance, and the norm of their mean."
)
SCHEDULES_TEXT = (
    "One run each, as long as the final runs, judged on held-out training identities; figures in percent. One seed: "
    "read a difference against the spread over the seeds above."
)
LENGTHS_TEXT = (
    "Settings as chosen, one run each, judged on held-out training identities; figures in percent. The learning rate "
    "falls over the whole length of each run."
)


ONE_RATE_TEXT = (
    "Final runs of the last seed at this rate, and losses for which another one was chosen; test identities, in "
    "percent."
)


def _section(heading: str, text: str, table: str, plot: str | None = None) -> str:
    """A section; nothing where there is neither table nor plot yet."""
    if not table and plot is None:
        return ""
    return "\n\n".join(filter(None, [f"## {heading}", text, table, f"![{heading}]({plot})" if plot else ""]))


def _extent(study: Study, rows: Sequence[Row]) -> str:
    """How far the study is, and on what."""
    minutes = sum(float(row["minutes"]) for row in rows if row.get("minutes"))
    planned = study.sizes(rows)
    counts = {phase: len(of_phase(rows, phase)) for phase in planned}
    lines = [
        f"* Runs: {', '.join(f'{counts[phase]} of {planned[phase]} {phase}' for phase in planned)}; "
        f"{minutes / 60.0:.1f} hours, {study.tuning_epochs} epochs for tuning, {study.final_epochs} for "
        "final runs and schedules.",
        f"* Machine: {_all(rows, 'machine')}; backbones in {_all(rows, 'precision')}.",
    ]
    judged = {row["split"]: row for row in reversed(rows) if row.get("split")}
    lines += [
        f"* {split.capitalize()}: {int(row['subjects']):,} identities, {int(row['genuine']):,} genuine and "
        f"{int(row['impostor']):,} impostor pairs."
        for split, row in judged.items()
    ]
    return "\n".join(lines)


def _all(rows: Sequence[Row], column: str) -> str:
    return "; ".join(sorted({row[column] for row in rows if row.get(column)}))


def _settings(study: Study, rows: Sequence[Row]) -> str:
    columns = ("alpha", "scale", "margin", "learning rate")
    body = []
    for loss in study.candidates:
        tried = study.tuning_rows(rows, loss)
        if tried:
            best = study.best(rows, loss)
            judged = [100.0 * float(row[study.judged_by]) for row in tried]
            value = f"{100.0 * float(best[study.judged_by]):.2f} [{min(judged):.2f}, {max(judged):.2f}]"
            support = f"{float(best['support_size']):,.1f}" if best.get("support_size") else ""
            body.append([loss, *(best[name] for name in columns), support, str(len(tried)), value])
    return _table(["loss", *columns, "support (classes)", "tried", f"{study.judged_by} (%)"], body)


def _scales(study: Study, rows: Sequence[Row]) -> str:
    tried = {loss: study.tuning_rows(rows, loss, TUNING[:1]) for loss in study.candidates}
    scales = sorted({row["scale"] for own in tried.values() for row in own}, key=float)
    body = []
    for loss, own in tried.items():
        cells = {row["scale"]: _at_scale(row, study.judged_by) for row in own}
        if cells:
            body.append([loss, *(cells.get(scale, "") for scale in scales)])
    return _table(["loss", *(f"s = {scale}" for scale in scales)], body)


def _at_scale(row: Row, judged_by: str) -> str:
    shown = [f"{100.0 * float(row[name]):.1f}" for name in dict.fromkeys((judged_by, "EER"))]
    support = f"{float(row['support_size']):,.0f}" if row.get("support_size") else ""
    return ", ".join([*shown, support])


def _figures(study: Study, rows: Sequence[Row]) -> str:
    finals = of_phase(rows, FINAL)
    names = [name for name in FIGURES if any(row.get(name) for row in finals)]
    body = []
    for loss in study.candidates:
        own = [row for row in finals if row["loss"] == loss]
        if own:
            body.append(
                [f"{loss} ({len(own)})", *(_spread([100.0 * float(row[name]) for row in own]) for name in names)]
            )
    return _table(["loss (seeds)", *names], body)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _differences(study: Study, rows: Sequence[Row], intervals: Sequence[Row], baseline: str) -> str:
    """What is clear in words, then every difference."""
    own = [row for row in intervals if row["baseline"] == baseline]
    names = list(dict.fromkeys(row["figure"] for row in own))
    said, body = [], []
    for loss in study.candidates:
        cells = {row["figure"]: row for row in own if row["loss"] == loss}
        if cells:
            seeds = {name: max(_deviation(rows, one, name) for one in (loss, baseline)) for name in names}
            body.append([loss, *(_difference(cells[name], seeds[name]) for name in names)])
            said.append(f"* {loss}: {_verdict(cells, seeds)}.")
    return f"{_table(['loss', *names], body)}\n\n" + "\n".join(said) if body else ""


def _verdict(cells: Mapping[str, Row], seeds: Mapping[str, float]) -> str:
    """`better at EER; worse at none; within noise at TAR@FAR=1e-03`: noise of the people, or of the seeds."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "within noise": []}
    for name, row in cells.items():
        value = float(row["value"])
        clear = _is_clear(row) and abs(value) > seeds[name]
        found[("better" if (value > 0.0) == (name != "EER") else "worse") if clear else "within noise"].append(name)
    return "; ".join(f"{kind} at {', '.join(names)}" for kind, names in found.items() if names)


def _difference(row: Row, seeds: float) -> str:
    value, low, high = (100.0 * float(row[name]) for name in ("value", "low", "high"))
    mark = " ✓" if _is_clear(row) else ""
    mark += " ~" if mark and abs(float(row["value"])) <= seeds else ""
    return f"{value:+.2f}{mark} [{low:+.2f}, {high:+.2f}]"


def _is_clear(row: Row) -> bool:
    """Whether the interval excludes 0."""
    return float(row["low"]) > 0.0 or float(row["high"]) < 0.0


def _deviation(rows: Sequence[Row], loss: str, figure: str) -> float:
    """Standard deviation of a figure over the seeds; 0 of a single one."""
    values = [float(row[figure]) for row in of_phase(rows, FINAL) if row["loss"] == loss]
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _ends(rows: Sequence[Row]) -> str:
    finals = of_phase(rows, FINAL)
    shown = [name for name in ENDS if any(row.get(name) for row in finals)]
    body = [
        [loss, *(_end([row for row in finals if row["loss"] == loss], name) for name in shown)]
        for loss in dict.fromkeys(row["loss"] for row in finals)
    ]
    return _table(["loss", *(ENDS[name].heading for name in shown)], body)


def _end(rows: Sequence[Row], name: str) -> str:
    values = [ENDS[name].factor * float(row[name]) for row in rows if row.get(name)]
    return f"{np.mean(values):,.{ENDS[name].digits}f}" if values else ""


def _at_one_rate(study: Study, rows: Sequence[Row]) -> list[Row]:
    """The runs at the rate that losses are compared at; none before those of that phase are there."""
    if not of_phase(rows, ONE_RATE):
        return []
    wanted = (f"{study.seeds[-1]:g}", f"{study.one_rate:g}")
    tried = [*of_phase(rows, FINAL), *of_phase(rows, ONE_RATE)]
    return [
        row
        for loss in study.candidates
        for row in tried
        if row["loss"] == loss and (row["seed"], row["learning rate"]) == wanted
    ]


def _single(tried: Sequence[Row], *also: str) -> str:
    """One run a line: figures, the last line of the log; `also` are cells of the rows as they are."""
    names = [name for name in (*FIGURES, *ENDS) if any(row.get(name) for row in tried)]
    header = [ENDS[name].heading if name in ENDS else f"{name} (%)" for name in names]
    body = [
        [
            *(row[name] for name in ("loss", *also)),
            *(_end([row], name) if name in ENDS else f"{100.0 * float(row[name]):.2f}" for name in names),
        ]
        for row in tried
    ]
    return _table(["training", *also, *header], body)


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Markdown; nothing where there are no rows."""
    if not body:
        return ""
    return grid(
        list(map(markdown_text, header)),
        [list(map(markdown_text, line)) for line in body],
        [True] + [False] * (len(header) - 1),
    )
