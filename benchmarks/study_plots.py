"""The plots of a study's report, as SVG: error rates, differences, what training did, and what the settings led to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from qmargin._files import replacing
from qmargin.protocols.verification import FARS, tar_name
from qmargin.report._canvas import COLOUR, PLAIN, SETTINGS, Pen, pens_of
from qmargin.report._legend import add_legend
from study import FINAL, SCHEDULES, TUNING, Study
from study_rows import Row, of_phase

MARKERS = "os^DvPX"  # seven, beside five colours: no pair of the two comes twice
PANELS = {  # column of the curves: label, logarithmic
    "support_size": ("Mean support (classes)", True),
    "p_target": ("Mean p of the label", False),
    "gradient_norm": ("Backbone's gradient, norm", True),
    "prototypes_effective": ("Prototypes taught, effective", True),
    "zero_loss": ("Share of rows with zero loss", False),
    "target_cosine": ("Cosine with the own prototype", False),
}


def _pens(names: Iterable[str]) -> dict[str, Pen]:
    """A pen for each loss; the first one is dashed grey."""
    losses = list(names)
    return pens_of(losses, losses[0])


def tar_plot(study: Study, rows: Sequence[Row]) -> Figure:
    """TAR over FAR of the final runs, mean over the seeds; the bar is from the lowest to the highest seed."""
    finals = of_phase(rows, FINAL)
    pens = _pens([loss for loss in study.candidates if any(row["loss"] == loss for row in finals)])
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for place, (loss, pen) in enumerate(pens.items()):
        fars = [far for far in FARS if all(row.get(tar_name(far)) for row in finals if row["loss"] == loss)]
        values = [[float(row[tar_name(far)]) for row in finals if row["loss"] == loss] for far in fars]
        mean = [np.mean(seeds) for seeds in values]
        ends = np.array([[m - min(seeds), max(seeds) - m] for m, seeds in zip(mean, values, strict=True)]).T
        moved = np.array(fars) * 1.05 ** (place - len(pens) / 2)  # bars side by side
        axes.errorbar(moved, mean, ends, color=pen.colour, linestyle=pen.dashes, marker="o", markersize=3, elinewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="FAR", ylabel="TAR")
    axes.yaxis.set_major_formatter(lambda tar, _: f"{tar:g}")
    axes.grid(visible=True)
    add_legend(figure, pens)
    return figure


def difference_plot(study: Study, intervals: Sequence[Row], baselines: Sequence[str]) -> Figure:
    """Paired differences with their intervals, a column of panels a baseline; filled where the interval excludes 0."""
    names = [row["figure"] for row in intervals if not row["baseline"] and row["loss"] == intervals[0]["loss"]]
    figure = Figure(figsize=(9.0, 0.5 + len(names) * (0.6 + 0.2 * len(study.candidates))), layout="constrained")
    panels = figure.subplots(len(names), len(baselines), squeeze=False)
    pens = _pens(study.candidates)
    for line, name in zip(panels, names, strict=True):
        for axes, baseline in zip(line, baselines, strict=True):
            own = [row for row in intervals if row["baseline"] == baseline and row["figure"] == name]
            _forest(axes, own, pens)
            axes.set_title(f"{name}, less {baseline}'s ({'left' if name == 'EER' else 'right'} is better)", fontsize=9)
    return figure


def _forest(axes: Axes, rows: Sequence[Row], pens: Mapping[str, Pen]) -> None:
    for place, row in enumerate(rows):
        value, low, high = (100.0 * float(row[name]) for name in ("value", "low", "high"))
        colour = pens[row["loss"]].colour
        axes.plot([low, high], [place, place], color=colour)
        face = colour if low > 0.0 or high < 0.0 else COLOUR["surface"]
        axes.plot([value], [place], marker="o", markersize=5, color=colour, markerfacecolor=face)
    axes.axvline(0.0, color=COLOUR["muted"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row["loss"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")


def training_plot(curves: Sequence[Row], phase: str) -> Figure:
    """What training did, over epochs: mean over the seeds of a phase's runs, from the lowest to the highest shaded."""
    own = of_phase(curves, phase)
    pens = _pens(dict.fromkeys(row["loss"] for row in own))
    shown = {name: label for name, label in PANELS.items() if any(row.get(name) for row in own)}
    figure = Figure(figsize=(9.0, 0.6 + 2.5 * math.ceil(len(shown) / 2)), layout="constrained")
    panels = figure.subplots(math.ceil(len(shown) / 2), 2, squeeze=False).ravel()
    for axes, (name, (label, logarithmic)) in zip(panels, shown.items(), strict=False):
        for loss, pen in pens.items():
            lines = [row for row in own if row["loss"] == loss and row.get(name)]
            seeds = [
                [row for row in lines if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in lines)
            ]
            if not seeds:
                continue
            epochs = [float(row["epoch"]) for row in seeds[0]]
            values = np.array([np.interp(epochs, *_points(one, name)) for one in seeds])  # (seeds, points)
            axes.fill_between(epochs, values.min(0), values.max(0), color=pen.colour, alpha=0.18, linewidth=0)
            axes.plot(epochs, values.mean(0), color=pen.colour, linestyle=pen.dashes)
        axes.set(xlabel="Epoch", ylabel=label)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter())
        axes.grid(visible=True, axis="y")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    add_legend(figure, pens)
    return figure


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    return [float(row["epoch"]) for row in rows], [float(row[name]) for row in rows]


def settings_plot(study: Study, rows: Sequence[Row]) -> Figure:
    """The validation figure of every setting tried, over the scale and over the support at its end."""
    tried = {loss: study.tuning_rows(rows, loss) for loss in study.candidates}
    pens = _pens([loss for loss, own in tried.items() if own])
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    by_scale, by_support = figure.subplots(1, 2, sharey=True)
    for marker, (loss, pen) in zip(cycle(MARKERS), pens.items()):
        for phase, face in zip(TUNING, (pen.colour, COLOUR["surface"]), strict=True):
            own = of_phase(tried[loss], phase)
            look = {"color": pen.colour, "marker": marker, "markerfacecolor": face}
            for axes, column in ((by_scale, "scale"), (by_support, "support_size")):
                along = axes is by_scale and phase == TUNING[0]
                points = sorted((float(row[column]), float(row[study.judged_by])) for row in own)
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    linestyle=pen.dashes if along else "none",
                    label=loss if along else None,
                    **look,
                )
    scales = sorted({float(row["scale"]) for own in tried.values() for row in own})
    by_scale.set(xscale="log", xlabel="Scale", ylabel=f"{study.judged_by}, validation")
    by_scale.set_xticks(scales, [f"{scale:g}" for scale in scales])
    by_scale.set_xticks([], minor=True)
    by_support.set(xscale="log", xlabel="Mean support at the end (classes)")
    by_support.xaxis.set_major_formatter(LogFormatter())
    for axes in (by_scale, by_support):
        axes.grid(visible=True)
    figure.legend(*by_scale.get_legend_handles_labels(), loc="outside upper left", ncols=5)
    return figure


def write_plots(
    folder: Path,
    name: str,
    study: Study,
    rows: Sequence[Row],
    intervals: Sequence[Row],
    curves: Sequence[Row],
    baselines: Sequence[str],
) -> dict[str, str]:
    """Write NAME-*.svg for what there are rows of; file name by the name of the plot."""
    phases = {row["phase"] for row in rows}
    with style.context(["default", SETTINGS]):
        drawn: dict[str, Figure | None] = {
            "settings": settings_plot(study, rows) if "settings" in phases else None,
            "tar": tar_plot(study, rows) if FINAL in phases else None,
            "differences": difference_plot(study, intervals, baselines) if intervals else None,
            "training": training_plot(curves, FINAL) if of_phase(curves, FINAL) else None,
            "schedules": training_plot(curves, SCHEDULES) if of_phase(curves, SCHEDULES) else None,
        }
        figures = {plot: figure for plot, figure in drawn.items() if figure is not None}
        files = {plot: f"{name}-{plot}.svg" for plot in figures}
        for plot, file in files.items():
            figures[plot].set_facecolor("white")
            with replacing(folder / file) as temporary:
                figures[plot].savefig(temporary, format="svg", metadata=PLAIN)
    return files
