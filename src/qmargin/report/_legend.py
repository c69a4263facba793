"""Names above plots: outside the axes, so that they never lie on a curve; cut to fit, and never mathematics."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qmargin.protocols.comparison import Comparison
from qmargin.report._canvas import pens
from qmargin.report._numbers import short

LONGEST_NAME = 26
ROW = 0.21  # inches


def legend_height(comparison: Comparison) -> float:
    """Inches that the legend adds to a plot."""
    return ROW * -(-len(comparison.systems) // _columns(comparison))


def add_legend(figure: Figure, comparison: Comparison) -> None:
    """Every system with its line. Names are set afterwards: matplotlib before 3.10 drops those that begin with `_`."""
    styles = pens(comparison)
    lines = [Line2D([], [], color=styles[s.name].colour, linestyle=styles[s.name].dashes) for s in comparison.systems]
    names = [short(system.name, LONGEST_NAME) for system in comparison.systems]
    legend = figure.legend(
        lines,
        ["-" * len(name) for name in names],
        loc="outside upper left",
        ncols=_columns(comparison),
        handlelength=2.6,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _columns(comparison: Comparison) -> int:
    return 3 if max(len(short(system.name, LONGEST_NAME)) for system in comparison.systems) <= 12 else 2
