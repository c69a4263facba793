"""Mean support size over training: how many classes still carry probability, hence gradient, at each step."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from qmargin.protocols.comparison import Comparison, Floats, TrainingCurve
from qmargin.report._canvas import draw, pens
from qmargin.report._legend import add_legend, legend_height
from qmargin.report._numbers import listed, plain

BLOCKS = 240  # steps along the axis; of what a block holds the mean is the line, the extremes are the band


def support_plot(comparison: Comparison) -> str:
    """Mean support size (classes) over the steps of a checked comparison as SVG text, the range over seeds shaded."""
    names = listed([plain(system.name) for system in comparison.systems])
    label = f"Mean support size in classes over the training steps of {names}, on a logarithmic axis."
    return draw("support", label, 2.9 + legend_height(pens(comparison)), partial(_paint, comparison))


def _paint(comparison: Comparison, figure: Figure) -> None:
    axes = figure.add_subplot()
    styles = pens(comparison)
    for system in comparison.systems:
        pen = styles[system.name]
        steps, mean, low, high = _band(system.support)
        axes.fill_between(steps, low, high, color=pen.colour, alpha=0.18, linewidth=0)
        axes.plot(steps, mean, color=pen.colour, linestyle=pen.dashes, zorder=pen.layer)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.yaxis.set_major_formatter(lambda size, _: f"{size:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,g}")
    axes.margins(x=0.02)
    axes.set_xlabel("Training step")
    axes.set_ylabel("Mean support (classes)")
    axes.grid(visible=True, axis="y")
    add_legend(figure, styles)


def _band(curves: tuple[TrainingCurve, ...]) -> tuple[Floats, Floats, Floats, Floats]:
    """Steps, mean, lowest and highest value over the seeds, on the steps that all seeds reached."""
    first, last = max(c.steps[0] for c in curves), min(c.steps[-1] for c in curves)
    if first > last:
        raise ValueError(
            f"support over training: the seeds {', '.join(str(c.seed) for c in curves)} have no common range of steps, "
            "so no mean over seeds can be drawn; were runs of different length given?"
        )
    steps = np.unique(np.concatenate([c.steps for c in curves]))
    steps = steps[(steps >= first) & (steps <= last)]
    values = np.stack([np.interp(steps, c.steps, c.values) for c in curves])  # (seeds, steps)
    blocks = np.array_split(np.arange(steps.size), min(BLOCKS, steps.size))
    mean, low, high = (np.array([f(values[:, block]) for block in blocks]) for f in (np.mean, np.min, np.max))
    return np.array([steps[block].mean() for block in blocks]), mean, low, high
