"""What every command that reports a protocol does with its tables: print them, write them, say where they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from qmargin.report import Table, write_results
from qmargin.report.curve_plots import Curve
from qmargin.report.gallery import Gallery


def show_and_write(
    folder: Path,
    name: str,
    tables: Sequence[Table],
    record: Mapping[str, object],
    curves: Sequence[Curve] = (),
    worst: Sequence[Gallery] = (),
) -> None:
    """Print the tables, and leave what `write_results` writes in the folder."""
    show(tables)
    say_saved(write_results(folder, name, tables, record, curves, worst))


def show(tables: Sequence[Table]) -> None:
    """Print tables."""
    console = Console()
    for table in tables:
        console.print(table.terminal())


def say_saved(paths: Sequence[Path]) -> None:
    """One line: the folder and the names of the files in it."""
    names = ", ".join(path.name for path in paths)
    Console().print(f"saved in {paths[0].parent}: {names}", soft_wrap=True, markup=False, highlight=False)
