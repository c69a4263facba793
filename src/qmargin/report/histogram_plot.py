"""Score histograms: small multiples, one a system, on shared axes, so that shifts and heights compare at a glance."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qmargin.protocols.comparison import Comparison, Histogram
from qmargin.report._canvas import COLOUR, draw, pens
from qmargin.report._numbers import listed, plain, short


def histogram_plot(comparison: Comparison) -> str:
    """Genuine and impostor scores of a checked comparison as SVG text, one panel a system."""
    names = listed([plain(system.name) for system in comparison.systems])
    label = f"Histograms of genuine and impostor scores, one panel each for {names}."
    return draw("histogram", label, 0.75 + 1.05 * len(comparison.systems), partial(_paint, comparison))


def _paint(comparison: Comparison, figure: Figure) -> None:
    panels = figure.subplots(len(comparison.systems), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    styles, reach = pens(comparison), _reach(comparison)
    for axes, system in zip(panels, comparison.systems, strict=True):
        colour = styles[system.name].colour
        histogram = system.histogram
        axes.stairs(histogram.impostor, histogram.edges, fill=True, color=COLOUR["impostor"])
        axes.stairs(histogram.genuine, histogram.edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(histogram.genuine, histogram.edges, color=colour, linewidth=1.3)
        axes.set_title(short(system.name, 40), parse_math=False, pad=3)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100.0 * share:g}")
        axes.locator_params(axis="y", nbins=3)
        _label(axes, histogram, colour, reach)
    panels[0].set_xlim(*reach)
    panels[0].set_ylim(
        0.0, 1.3 * max(max(s.histogram.genuine.max(), s.histogram.impostor.max()) for s in comparison.systems)
    )
    panels[-1].set_xlabel("Score")
    figure.supylabel("Share of trials in a bin (%)", fontsize=10.5, color=COLOUR["ink"])


def _label(axes: Axes, histogram: Histogram, colour: str, reach: tuple[float, float]) -> None:
    """Name both humps above their peaks, side by side where the peaks are close."""
    middles = (histogram.edges[1:] + histogram.edges[:-1]) / 2.0
    genuine, impostor = (float(middles[shares.argmax()]) for shares in (histogram.genuine, histogram.impostor))
    sides = ("center", "center")
    if abs(genuine - impostor) < 0.2 * (reach[1] - reach[0]):
        sides = ("left", "right") if genuine >= impostor else ("right", "left")
    for name, place, shares, side, tone in (
        ("genuine", genuine, histogram.genuine, sides[0], colour),
        ("impostor", impostor, histogram.impostor, sides[1], COLOUR["muted"]),
    ):
        text = axes.annotate(name, (place, float(shares.max())), xytext=(0, 2), textcoords="offset points", va="bottom")
        text.set(ha=side, color=tone, fontsize=9.5)


def _reach(comparison: Comparison) -> tuple[float, float]:
    """Edges of the outermost bins that hold a trial of any system, and a bin's width more on either side."""
    edges = comparison.systems[0].histogram.edges
    held = np.sum([s.histogram.genuine + s.histogram.impostor for s in comparison.systems], axis=0) > 0.0
    bins = np.flatnonzero(held)
    if bins.size == 0:
        return float(edges[0]), float(edges[-1])
    first, last = int(bins[0]), int(bins[-1])
    room = 0.04 * float(edges[last + 1] - edges[first])
    return float(edges[first]) - room, float(edges[last + 1]) + room
