"""The comparison as two tables: the figures (one row a system), then the differences to the baseline, by figure.

For files they are ordinary `Table`s. A terminal has fewer columns than a file: there a cell has its interval under its
value, and many figures are split over several tables.
"""

from dataclasses import asdict
from textwrap import wrap

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from qmargin.protocols.comparison import Comparison
from qmargin.report._amount import Amount
from qmargin.report._check import check
from qmargin.report._numbers import plain
from qmargin.report._rows import DifferenceRow, SystemRow, Word, difference_rows, heading, legend, others, system_rows
from qmargin.report._verdict import verdict
from qmargin.report.table import SHARE, Cell, Column, Row, Table

FIGURES_PER_TABLE = 3  # columns, the support among them: as many as 80 columns hold beside the names and settings
NARROWEST_NAME = 16  # characters: figures never push the names out
WIDEST_HEADER = 17  # a longer one is folded
SUPPORT = "Support (classes)"


def comparison_table(comparison: Comparison) -> Group:
    """The tables for `rich.print`, readable from 100 columns on; with many figures the first is split, not squeezed.

    Raises:
        ValueError: the comparison lacks something or holds a number that is not finite; the message names it.
    """
    check(comparison)
    parts: list[Text | RichTable] = [Text(plain(comparison.title), style="bold"), Text(verdict(comparison))]
    parts.extend(_figure_tables(comparison))
    if others(comparison):
        parts.append(_difference_table(comparison))
    return Group(*parts, Text("\n".join(legend(comparison)), style="dim"))


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The figures and, with more than one system, the differences, for files: Markdown, LaTeX and CSV.

    Raises:
        ValueError: as `comparison_table`.
    """
    check(comparison)
    return [_figures(comparison), *([_differences(comparison)] if others(comparison) else [])]


def comparison_markdown(comparison: Comparison) -> str:
    """The tables as GitHub Markdown; names are escaped, columns aligned in the source too.

    Raises:
        ValueError: as `comparison_table`.
    """
    return "\n".join(table.markdown() for table in comparison_tables(comparison))


def comparison_record(comparison: Comparison) -> dict[str, object]:
    """All numbers that the tables rest on, for the JSON: curves and histograms are on the page only."""
    record = asdict(comparison)
    for system in record["systems"]:
        for drawn in ("histogram", "support"):
            del system[drawn]
    return record


def _figure_tables(comparison: Comparison) -> list[RichTable]:
    """As few tables as fit; the settings stand in the first, the support in the last."""
    rows = system_rows(comparison)
    columns = [(heading(f), [row.figures[place] for row in rows]) for place, f in enumerate(comparison.figures)]
    columns.append((SUPPORT, [row.support for row in rows]))
    starts = range(0, len(columns), FIGURES_PER_TABLE)
    chunks = [columns[start : start + FIGURES_PER_TABLE] for start in starts]
    return [
        _figure_table([_name(row, with_setting=place == 0) for row in rows], chunk)
        for place, chunk in enumerate(chunks)
    ]


def _figure_table(names: list[Text], columns: list[tuple[str, list[Amount]]]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("System", overflow="fold", min_width=NARROWEST_NAME)
    cells = [names]
    for name, column in columns:
        header = wrap(name, WIDEST_HEADER, break_on_hyphens=False)
        table.add_column(Text("\n".join(header), justify="right"), no_wrap=True)
        cells.append(_two_lines(column, max(map(len, header))))
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def _name(row: SystemRow, *, with_setting: bool) -> Text:
    text = Text(row.name, style="bold")
    if row.is_baseline:
        text.append(" baseline", style="not bold italic")
    return text.append(f"\n{row.setting}", style="not bold dim") if with_setting else text


def _two_lines(column: list[Amount], header: int) -> list[Text]:
    """Value and marks over the interval. Digits stand under digits: the marks have a place of their own."""
    room = max(len(cell.marks) for cell in column)
    marks = 1 + room if room else 0
    texts = [max(len(cell.value), len(cell.interval)) for cell in column]
    width = max(*texts, header - marks)
    return [
        Text(f"{cell.value:>{width}} {cell.marks:<{room}}\n").append(f"{cell.interval:>{width}}", style="dim")
        for cell in column
    ]


def _difference_table(comparison: Comparison) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Figure", "System"):
        table.add_column(name, overflow="fold")
    table.add_column("Difference", no_wrap=True)
    for name in ("95 % interval", "Won"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Reading", no_wrap=True)
    groups = [(figure, difference_rows(comparison, figure)) for figure in comparison.figures]
    width = max(len(row.difference.value) for _, rows in groups for row in rows)
    for figure, rows in groups:
        first = heading(figure)
        for row in rows:
            cell = row.difference
            value = Text(f"{cell.value:>{width}} {cell.marks}")
            won = row.won.value if row.won else ""
            table.add_row(Text(first), Text(row.name), value, cell.interval, won, row.reading)
            first = ""
        table.add_section()
    return table


def _figures(comparison: Comparison) -> Table:
    """One row a system, one column a figure, the support last."""
    columns = (
        Column(name="System", left=True),
        Column(name="Setting", left=True),
        *(Column(name=heading(figure), unit=SHARE) for figure in comparison.figures),
        Column(name=SUPPORT, unit="mean"),
    )
    rows = tuple(
        Row(cells=(f"{row.name} (baseline)" if row.is_baseline else row.name, row.setting, *row.figures, row.support))
        for row in system_rows(comparison)
    )
    return Table(title=comparison.title, columns=columns, rows=rows, notes=(verdict(comparison), *legend(comparison)))


def _differences(comparison: Comparison) -> Table:
    """One group a figure: the baseline, then every other system against it."""
    columns = (
        Column(name="Figure", left=True),
        Column(name="System", left=True),
        Column(name="Difference", unit=SHARE, interval=False),
        Column(name="95 % interval", repeats=True),
        Column(name="Won", unit=SHARE),
        Column(name="Reading"),
    )
    rows = tuple(
        Row(cells=(heading(figure), row.name, *_difference_cells(row), row.reading))
        for figure in comparison.figures
        for row in difference_rows(comparison, figure)
    )
    title = f"{comparison.title}: differences to {comparison.baseline}"
    return Table(title=title, columns=columns, rows=rows, slug="differences")


def _difference_cells(row: DifferenceRow) -> tuple[Cell, Cell, Cell]:
    difference = row.difference.value if isinstance(row.difference, Word) else row.difference
    return difference, row.difference.interval, "" if row.won is None else row.won
