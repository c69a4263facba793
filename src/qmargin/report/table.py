"""The one table of all protocols: written for a terminal (rich), as Markdown, as LaTeX and as CSV.

A cell is text, or an `Amount`: a number that keeps its full precision and knows how it is shown. Terminal, Markdown and
LaTeX show it rounded; CSV has every digit, in the unit that its header names. Marks: see `_amount`; a row quoted from
elsewhere is `published`, stands under a rule and says so in its first cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from qmargin.report._amount import FEW, FEW_NOTE, Amount
from qmargin.report._csv import csv_text
from qmargin.report._latex import fragment, latex_text
from qmargin.report._markdown import grid, markdown_text
from qmargin.report._numbers import plain

PUBLISHED = "published: "  # what the first cell of a quoted row begins with
MISSING = "-"
SHARE, COUNT = "share", "count"  # units of full precision
LONGEST_NAME = 16  # characters of a name that are kept on a line where the terminal is narrow
BOUNDLESS = 10_000  # characters


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading, and what the numbers under it are."""

    name: str
    shown: str = ""  # unit as the reader sees it, "%"; "" where the name says it
    unit: str = ""  # unit of the full-precision numbers, for the CSV; "" where the column holds text
    left: bool = False  # aligned: names to the left, all else to the right
    interval: bool = True  # whether the numbers show their interval
    repeats: bool = False  # says again, for readers, what a number of this row holds: no column of the CSV

    @property
    def heading(self) -> str:
        """Name with unit: 'EER (%)'."""
        return f"{plain(self.name)} ({self.shown})" if self.shown else plain(self.name)


Cell = str | Amount | None  # None: there is no such figure


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells, one a column."""

    cells: tuple[Cell, ...]
    published: bool = False  # quoted from elsewhere, not computed here


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table and what must be said under it.

    Example:
        >>> from qmargin.report._amount import share
        >>> columns = (Column(name="Set", left=True), Column(name="EER", shown="%", unit=SHARE))
        >>> row = Row(cells=("lfw", share(0.0123, false_accepts=12)))
        >>> table = Table(title="Pairs", columns=columns, rows=(row,), notes=(FEW_NOTE,))
        >>> print(table.csv(), end="")
        Origin,Set,EER (share),"EER, false accepts (count)"
        measured,lfw,0.0123,12
        >>> print(table.grid())
        | Set | EER (%) |
        | --- | ------: |
        | lfw |  1.23 † |
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # how to read it
    sources: tuple[str, ...] = ()  # what it was made from: lists with checksums, sources of published numbers
    slug: str = ""  # what its CSV file is called beyond the name of the report; "" for the main table

    def __post_init__(self) -> None:
        """Our own invariants: builders fill every column."""
        assert all(len(row.cells) == len(self.columns) for row in self.rows), self.title

    def markdown(self) -> str:
        """As GitHub Markdown, columns aligned in the source too."""
        notes = "\n".join(f"- {markdown_text(note)}" for note in (*self.notes, *self.sources))
        return "\n\n".join(filter(None, [f"## {markdown_text(self.title)}", self.grid(), notes])) + "\n"

    def grid(self) -> str:
        """The Markdown of the table alone."""
        header = [markdown_text(column.heading) for column in self.columns]
        body = [[markdown_text(text) for text in self._texts(row)] for row in self._ordered()]
        return grid(header, body, [column.left for column in self.columns])

    def latex(self) -> str:
        """As a LaTeX fragment for `booktabs`, every text escaped; see `_latex` for what it needs."""
        body = [[latex_text(text) for text in self._texts(row)] for row in self._ordered()]
        measured = sum(not row.published for row in self.rows)
        return fragment(
            caption=latex_text(self.title),
            columns="".join("l" if column.left else "r" for column in self.columns),
            header=[latex_text(column.heading) for column in self.columns],
            parts=[part for part in (body[:measured], body[measured:]) if part],
            notes=[latex_text(note) for note in self.notes],
            comments=[plain(source) for source in self.sources],
        )

    def csv(self) -> str:
        """Every digit, one line a row; numbers in the units of the header, an empty field where there is none."""
        rows = self._ordered()
        headers, fields = ["Origin"], [["published" if row.published else "measured" for row in rows]]
        for place, column in enumerate(self.columns):
            if not column.repeats:
                more = _csv_columns(column, [row.cells[place] for row in rows])
                headers, fields = headers + more[0], fields + more[1]
        return csv_text([headers, *zip(*fields, strict=True)])

    def terminal(self) -> Group:
        """For `rich.print`: where the terminal is narrow, columns go on below, each row named again."""
        notes = [Text(f"- {plain(note)}", style="dim") for note in (*self.notes, *self.sources)]
        return Group(Text(plain(self.title), style="bold"), _Folded(self), *notes)

    def part(self, places: Sequence[int]) -> RichTable:
        """The columns at these places, for a terminal."""
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in (self.columns[place] for place in places):
            justify: Literal["left", "right"] = "left" if column.left else "right"
            heading = column.heading if column.left else column.heading.replace(" (", "\n(")
            table.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=not column.left)
        rows = self._ordered()
        rooms = [_room([row.cells[place] for row in rows]) for place in range(len(self.columns))]
        last = sum(not row.published for row in rows) - 1
        for number, row in enumerate(rows):
            texts = self._texts(row, rooms, "\n")
            style = "dim" if row.published else None
            table.add_row(*(Text(texts[place]) for place in places), style=style, end_section=number == last)
        return table

    def texts(self) -> list[tuple[Row, list[str]]]:
        """The rows as they are shown, each with its texts: for a form of one's own, such as a page."""
        return [(row, self._texts(row)) for row in self._ordered()]

    def _ordered(self) -> list[Row]:
        """Published rows last, under a rule; the order of each kind stays."""
        return sorted(self.rows, key=lambda row: row.published)

    def _texts(self, row: Row, rooms: Sequence[int] | None = None, break_: str = " ") -> list[str]:
        room = [0] * len(self.columns) if rooms is None else rooms
        return [_shown(*one, break_) for one in zip(self.columns, row.cells, room, strict=True)]


class _Folded:
    """A table of which no number is cut off: the columns that do not fit beside each other follow below."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Names stand at the left of every part; a part has as many other columns as fit, and at least one."""
        columns = self._table.columns
        names = [place for place, column in enumerate(columns) if column.left]
        unbounded = options.update(max_width=BOUNDLESS)

        def width(places: list[int]) -> int:
            return Measurement.get(console, unbounded, self._table.part(places)).maximum

        room = options.max_width - min(width(names), LONGEST_NAME * len(names))  # longer names are folded
        chosen: list[int] = []
        for place in (place for place, column in enumerate(columns) if not column.left):
            if chosen and width([*chosen, place]) > room:
                yield self._table.part([*names, *chosen])
                chosen = []
            chosen.append(place)
        yield self._table.part([*names, *chosen])


def few_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """The meaning of the mark of few false accepts, where it occurs."""
    marked = any(isinstance(cell, Amount) and FEW in cell.marks for row in rows for cell in row.cells)
    return (FEW_NOTE,) if marked else ()


def _shown(column: Column, cell: Cell, room: int = 0, break_: str = " ") -> str:
    """'97.31 ± 0.20 † [96.80, 97.90]'; marks take `room` characters, so that digits stand under digits.

    Args:
        column: where the cell stands.
        cell: what stands there.
        room: of the marks.
        break_: between the number and its interval: a new line where there is little width.
    """
    if not isinstance(cell, Amount):
        return MISSING if cell is None else plain(cell)
    value = " ".join(filter(None, (cell.value, f"{cell.marks:<{room}}")))
    return break_.join(filter(None, (value, cell.interval if column.interval else "")))


def _room(cells: Sequence[Cell]) -> int:
    return max((len(cell.marks) for cell in cells if isinstance(cell, Amount)), default=0)


def _csv_columns(column: Column, cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Headers of a column and of what its numbers carry, and the fields (headers, rows)."""
    name = plain(column.name)
    if not column.unit:
        return [name], [["" if cell is None else _shown(column, cell) for cell in cells]]
    headers, fields = [f"{name} ({column.unit})"], [_digits(cells, "number")]
    for attribute, what, unit in (
        ("spread", "standard deviation", column.unit),
        ("low", "low end of 95 % interval", column.unit),
        ("high", "high end of 95 % interval", column.unit),
        ("false_accepts", "false accepts", COUNT),
    ):
        digits = _digits(cells, attribute)
        if any(digits):
            headers.append(f"{name}, {what} ({unit})")
            fields.append(digits)
    return headers, fields


def _digits(cells: Sequence[Cell], attribute: str) -> list[str]:
    """Every digit of one attribute of the numbers, "" where there is none."""
    values = [getattr(cell, attribute) if isinstance(cell, Amount) else None for cell in cells]
    return ["" if value is None else repr(value) for value in values]
