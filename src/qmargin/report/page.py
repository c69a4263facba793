"""The report of a comparison: one HTML page, `page.html` in the frame that all pages share."""

from collections.abc import Callable
from pathlib import Path

from qmargin._files import write_text
from qmargin.protocols.comparison import Comparison
from qmargin.protocols.few import FEW_FALSE_ACCEPTS
from qmargin.report import _sections as sections
from qmargin.report._check import check
from qmargin.report._frame import framed_page, template
from qmargin.report._markup import Safe, escaped, tag
from qmargin.report._numbers import counted
from qmargin.report._rows import others
from qmargin.report._verdict import verdict
from qmargin.report.curve_plots import det_plot, roc_plot
from qmargin.report.forest_plot import forest_plot
from qmargin.report.histogram_plot import histogram_plot
from qmargin.report.support_plot import support_plot


def write_report(comparison: Comparison, path: Path) -> None:
    """Write the page to `path`, whole or not at all; equal comparisons give equal files.

    Args:
        comparison: what to show; see `qmargin.protocols.comparison`.
        path: of the `.html` file; its folder must exist.

    Raises:
        ValueError: the comparison lacks something or holds a number that is not finite (the message names it), or the
            file cannot be written.
    """
    check(comparison)
    write_text(path, _page(comparison))


def _page(comparison: Comparison) -> str:
    body = template("page.html").substitute(
        title=escaped(comparison.title),
        verdict=escaped(verdict(comparison)),
        facts=sections.facts(comparison),
        notes_link=sections.notes_link(comparison),
        figure_table=sections.figure_table(comparison),
        difference_table=sections.difference_table(comparison),
        forest=_forest(comparison),
        legend=sections.legend_list(comparison),
        differing=sections.differing(comparison),
        det=_framed(det_plot, comparison, _det_caption(comparison)),
        roc=_framed(roc_plot, comparison, "The same curves and bands over a logarithmic FAR."),
        histograms=_framed(histogram_plot, comparison, "The trials of all seeds pooled; the panels share both axes."),
        support=_framed(
            support_plot, comparison, "Line: mean over seeds; shaded: range over seeds. Logarithmic vertical axis."
        ),
        shared=sections.shared(comparison),
        notes=sections.notes(comparison),
        provenance=sections.provenance(comparison),
    )
    return framed_page(comparison.title, body)


def _framed(plot: Callable[[Comparison], str], comparison: Comparison, caption: str) -> Safe:
    return tag("figure", Safe(plot(comparison)), tag("figcaption", caption))


def _forest(comparison: Comparison) -> Safe:
    if not others(comparison):
        return Safe()
    caption = "Bars: 95 % intervals over test subjects. Filled: the interval excludes 0; hollow: it does not."
    return _framed(forest_plot, comparison, caption)


def _det_caption(comparison: Comparison) -> str:
    impostors = counted(comparison.impostor, "impostor trial")
    return (
        "Line: mean over seeds at equal FAR; shaded: pointwise 95 % bands over test subjects; normal-deviate axes. "
        f"With {impostors} the curves end at one false accept; in the grey part a run has fewer than "
        f"{FEW_FALSE_ACCEPTS}: an indication, not a measurement. A curve along the frame has less than one error in a "
        "run there."
    )
