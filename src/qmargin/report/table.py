"""The comparison as two tables, for a terminal (rich) and as GitHub Markdown: the figures, then the differences.

Both say the same, in the same order: title, verdict, figures (one row a system), differences to the baseline (one group
a figure), and how to read the marks.
"""

import re
from itertools import zip_longest
from textwrap import wrap

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qmargin.protocols.comparison import Comparison
from qmargin.report._check import check
from qmargin.report._numbers import plain
from qmargin.report._rows import Cell, SystemRow, difference_rows, heading, legend, others, system_rows
from qmargin.report._verdict import verdict

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
    parts: list[Text | Table] = [Text(plain(comparison.title), style="bold"), Text(verdict(comparison))]
    parts.extend(_figure_tables(comparison))
    if others(comparison):
        parts.append(_difference_table(comparison))
    return Group(*parts, Text("\n".join(legend(comparison)), style="dim"))


def comparison_markdown(comparison: Comparison) -> str:
    """The tables as GitHub Markdown; names are escaped, columns aligned in the source too.

    Raises:
        ValueError: as `comparison_table`.
    """
    check(comparison)
    parts = [f"## {_escaped(comparison.title)}", _escaped(verdict(comparison)), _figure_markdown(comparison)]
    if others(comparison):
        parts.append(_difference_markdown(comparison))
    return "\n\n".join([*parts, "\n".join(f"- {_escaped(line)}" for line in legend(comparison))]) + "\n"


def _figure_tables(comparison: Comparison) -> list[Table]:
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


def _figure_table(names: list[Text], columns: list[tuple[str, list[Cell]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
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


def _two_lines(column: list[Cell], header: int) -> list[Text]:
    """Value and marks over the interval. Digits stand under digits: the marks have a place of their own."""
    room = max(len(cell.marks) for cell in column)
    marks = 1 + room if room else 0
    texts = [max(len(cell.value), len(cell.interval)) for cell in column]
    width = max(*texts, header - marks)
    return [
        Text(f"{cell.value:>{width}} {cell.marks:<{room}}\n").append(f"{cell.interval:>{width}}", style="dim")
        for cell in column
    ]


def _difference_table(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
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
            table.add_row(Text(first), Text(row.name), value, cell.interval, row.won, row.reading)
            first = ""
        table.add_section()
    return table


def _figure_markdown(comparison: Comparison) -> str:
    header = ["System", "Setting", *(_escaped(heading(figure)) for figure in comparison.figures), SUPPORT]
    body = [
        [
            _escaped(f"{row.name} (baseline)" if row.is_baseline else row.name),
            _escaped(row.setting),
            *(f"{_marked(cell)} {cell.interval}" for cell in (*row.figures, row.support)),
        ]
        for row in system_rows(comparison)
    ]
    return _grid(header, body, left=2)


def _difference_markdown(comparison: Comparison) -> str:
    header = ["Figure", "System", "Difference", "95 % interval", "Won", "Reading"]
    body = [
        [
            _escaped(heading(figure)),
            _escaped(row.name),
            _marked(row.difference),
            row.difference.interval,
            row.won,
            row.reading,
        ]
        for figure in comparison.figures
        for row in difference_rows(comparison, figure)
    ]
    return _grid(header, body, left=2)


def _marked(cell: Cell) -> str:
    return f"{cell.value} {_escaped(cell.marks)}".strip()


def _grid(header: list[str], body: list[list[str]], left: int) -> str:
    """A Markdown table whose first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(3, *map(cell_len, column)) for column in zip_longest(header, *body, fillvalue="")]
    rules = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    lines = []
    for row in (header, rules, *body):
        padding = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        cells = [
            text + pad if place < left else pad + text
            for place, (text, pad) in enumerate(zip(row, padding, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Plain text that GitHub shows as it is: no emphasis, links, tags, mathematics or cell ends."""
    return re.sub(r"([\\`*_<>&|~$#]|\](?=[(\[:]))", r"\\\1", plain(text))
