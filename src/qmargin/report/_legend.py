"""Names above plots: outside the axes, so that they never lie on a curve; cut to fit, and never mathematics."""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qmargin.report._canvas import Pen
from qmargin.report._numbers import short

LONGEST_NAME = 26
ROW = 0.21  # inches


def legend_height(styles: Mapping[str, Pen]) -> float:
    """Inches that the legend adds to a plot."""
    return ROW * -(-len(styles) // _columns(styles))


def add_legend(figure: Figure, styles: Mapping[str, Pen]) -> None:
    """Every name with its line. Names are set afterwards: matplotlib before 3.10 drops those that begin with `_`."""
    lines = [Line2D([], [], color=pen.colour, linestyle=pen.dashes) for pen in styles.values()]
    names = [short(name, LONGEST_NAME) for name in styles]
    legend = figure.legend(
        lines,
        ["-" * len(name) for name in names],
        loc="outside upper left",
        ncols=_columns(styles),
        handlelength=2.6,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _columns(names: Iterable[str]) -> int:
    return 3 if max(len(short(name, LONGEST_NAME)) for name in names) <= 12 else 2
