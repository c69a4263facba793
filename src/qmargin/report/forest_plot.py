"""Differences to the baseline with their intervals, one panel a figure: the second table as a picture."""

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qmargin.protocols.comparison import Comparison
from qmargin.protocols.comparison import Figure as Column
from qmargin.report._canvas import COLOUR, draw, pens
from qmargin.report._numbers import MINUS, listed, plain, short
from qmargin.report._rows import is_clear, others


def forest_plot(comparison: Comparison) -> str:
    """Differences of a checked comparison as SVG text; filled where the interval excludes 0, hollow where not."""
    names = listed([plain(system.name) for system in others(comparison)])
    figures = listed([plain(figure.name) for figure in comparison.figures])
    label = f"Differences of {names} to {plain(comparison.baseline)} with their 95 % intervals, for {figures}."
    height = 0.45 + len(comparison.figures) * (0.62 + 0.26 * len(others(comparison)))
    return draw("forest", label, height, partial(_paint, comparison))


def _paint(comparison: Comparison, figure: Figure) -> None:
    panels = figure.subplots(len(comparison.figures), 1, squeeze=False)[:, 0]
    for axes, column in zip(panels, comparison.figures, strict=True):
        _panel(axes, comparison, column)
    panels[-1].set_xlabel(f"Difference to {short(comparison.baseline, 24)} (percentage points)", parse_math=False)


def _panel(axes: Axes, comparison: Comparison, column: Column) -> None:
    styles, systems = pens(comparison), others(comparison)
    for place, system in enumerate(systems):
        difference, colour = system.differences[column.name], styles[system.name].colour
        low, mean, high = (100.0 * end for end in (difference.low, difference.mean, difference.high))
        axes.plot([low, high], [place, place], color=colour, solid_capstyle="butt")
        face = colour if is_clear(difference) else COLOUR["surface"]
        axes.plot([mean], [place], marker="o", markersize=5.5, color=colour, markerfacecolor=face)
    axes.axvline(0.0, color=COLOUR["muted"], linewidth=0.8)
    axes.set_ylim(len(systems) - 0.4, -0.6)
    axes.set_yticks(range(len(systems)), [short(system.name, 18) for system in systems], parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=COLOUR["ink"])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda points, _: f"{points:g}".replace("-", MINUS))
    side = "right" if column.higher_is_better else "left"
    axes.set_title(f"{short(column.name, 40)}: {side} is better", parse_math=False, pad=3)
