"""The page of one evaluation: its tables, its curves and, on request, its worst errors; it asks no other place."""

from collections.abc import Sequence

from qmargin.report._frame import framed_page
from qmargin.report._markup import Safe, joined, tag
from qmargin.report.curve_plots import Curve, curve_plots
from qmargin.report.gallery import Gallery
from qmargin.report.table import Row, Table


def protocol_page(tables: Sequence[Table], curves: Sequence[Curve] = (), worst: Sequence[Gallery] = ()) -> str:
    """The whole page as text; equal input gives equal bytes.

    Args:
        tables: at least one; the first one's title is the page's.
        curves: DET and ROC.
        worst: worst errors, after the curves.
    """
    title = tables[0].title
    parts = [tag("section", _table(tables[0]))]
    parts += [tag("section", tag("h2", table.title), _table(table)) for table in tables[1:]]
    if curves:
        plots = (tag("figure", Safe(svg), tag("figcaption", caption)) for svg, caption in curve_plots(curves))
        parts.append(tag("section", tag("h2", "Curves"), tag("div", *plots, class_="plots")))
    parts += [tag("section", tag("h2", one.table.title), one.section()) for one in worst]
    return framed_page(title, joined(tag("header", tag("h1", title)), tag("main", *parts)))


def _table(table: Table) -> Safe:
    """The fifth form of a table."""
    head = tag("thead", tag("tr", *(tag("th", column.heading, scope="col") for column in table.columns)))
    body = tag("tbody", *(_row(row, texts) for row, texts in table.texts()))
    notes = tag("ul", *(tag("li", note) for note in (*table.notes, *table.sources)), class_="legend")
    scroll = {"class_": "scroll protocol", "role": "region", "aria_label": table.title, "tabindex": "0"}
    return joined(tag("div", tag("table", head, body), **scroll), notes)


def _row(row: Row, texts: Sequence[str]) -> Safe:
    first, *rest = texts
    cells = (tag("th", first, scope="row"), *(tag("td", text) for text in rest))
    return tag("tr", *cells, class_="published") if row.published else tag("tr", *cells)
