"""One table, four forms: the same rows in each, rounded for people, every digit for programs, nothing is markup."""

import csv
import json
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qmargin.metrics import TarAtFar
from qmargin.report import Table, write_results
from qmargin.report._amount import share, whole
from qmargin.report._latex import SYMBOLS, latex_text
from qmargin.report._numbers import plain
from qmargin.report.table import COUNT, SHARE, Column, Row, few_notes

THIRD = 1.0 / 3.0
COLUMNS = (
    Column(name="Name", left=True),
    Column(name="EER", shown="%", unit=SHARE),
    Column(name="Pairs", unit=COUNT),
    Column(name="Again", repeats=True),
)


def table(*names: str, published: str = "", **more: float) -> Table:
    rows = [Row(cells=(name, share(THIRD, **more), whole(1200), "x")) for name in names]  # type: ignore[arg-type] # numbers only
    if published:
        rows.insert(0, Row(cells=(published, share(0.5), None, "x"), published=True))
    return Table(title="A title", columns=COLUMNS, rows=tuple(rows), notes=few_notes(rows), sources=("a list",))


def unescaped(latex: str) -> str:
    """What LaTeX would set, by the table of escapes read backwards."""
    back = {command: symbol for symbol, command in SYMBOLS.items()}
    found = re.sub("|".join(map(re.escape, sorted(back, key=len, reverse=True))), lambda m: back[m[0]], latex)
    return re.sub(r"([-,])\{\}", r"\1", found)


def commands(latex: str) -> str:
    """The fragment without the texts that `latex_text` makes: what LaTeX obeys."""
    return re.sub("|".join(map(re.escape, sorted(SYMBOLS.values(), key=len, reverse=True))), "", latex)


def latex_cells(fragment: str) -> list[list[str]]:
    """Cells of the rows of a fragment, escapes undone."""
    lines = [line.removesuffix(r" \\") for line in fragment.splitlines() if line.endswith(r" \\")]
    return [[unescaped(cell) for cell in line.split(" & ")] for line in lines]


def test_all_forms_hold_the_same_rows() -> None:
    made = table("one", "two", low=0.3, high=0.4, spread=0.01, false_accepts=3)
    text = "33.33 ± 1.00 † [30.00, 40.00]"
    assert [row[:3] for row in latex_cells(made.latex())[1:]] == [["one", text, "1,200"], ["two", text, "1,200"]]
    assert made.markdown().count(text) == 2
    console = Console(file=StringIO(), width=120)
    console.print(made.terminal())
    shown = console.file.getvalue()  # type: ignore[attr-defined] # a StringIO
    assert shown.count("33.33 ± 1.00 †") == shown.count("[30.00, 40.00]") == 2  # one under the other
    assert "fewer than 30 false accepts" in shown


def test_csv_has_every_digit_in_the_unit_of_the_header() -> None:
    lines = list(csv.reader(StringIO(table("a,b", low=0.1, high=0.7, false_accepts=2, published="p").csv())))
    assert lines[0] == [
        "Origin", "Name", "EER (share)", "EER, low end of 95 % interval (share)",
        "EER, high end of 95 % interval (share)", "EER, false accepts (count)", "Pairs (count)",
    ]  # fmt: skip
    assert lines[1] == ["measured", "a,b", repr(THIRD), "0.1", "0.7", "2", "1200"]
    assert lines[2] == ["published", "p", "0.5", "", "", "", ""]


def test_published_rows_stand_last_under_a_rule() -> None:
    made = table("ours", published="theirs")
    assert [row[0] for row in latex_cells(made.latex())[1:]] == ["ours", "theirs"]
    lines = made.latex().splitlines()
    ours, theirs = (next(k for k, line in enumerate(lines) if line.startswith(name)) for name in ("ours", "theirs"))
    assert lines[ours + 1 : theirs] == [r"\midrule"]
    assert made.grid().index("ours") < made.grid().index("theirs")


def test_a_fragment_is_a_table_of_booktabs() -> None:
    fragment = table("cfp_fp").latex()
    lines = fragment.splitlines()
    assert lines[0] == "% a list"
    assert [line for line in lines if line.startswith((r"\begin", r"\end"))] == [
        r"\begin{table}", r"\begin{tabular}{lrrr}", r"\end{tabular}", r"\end{table}"
    ]  # fmt: skip
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"cfp\_fp & 33.33 & 1,200 & x \\" in lines


@given(st.text(alphabet=st.sampled_from([*SYMBOLS, *"-,ab1 .&\\é"]), max_size=12))
def test_any_text_survives_latex(text: str) -> None:
    escaped = latex_text(text)
    assert unescaped(escaped) == plain(text)
    rest = commands(escaped)
    assert not re.search(r"[\\&%$#_{}~^]", re.sub(r"([-,])\{\}", r"\1", rest)), escaped
    assert "--" not in escaped
    assert ",," not in escaped


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX sets the fragment: pdflatex is not installed")
def test_latex_sets_a_fragment_with_every_symbol(tmp_path: Path) -> None:
    fragment = table("".join(SYMBOLS), "a -- b ,, c '' é", low=0.3, high=0.4, published="[theirs]").latex()
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{fragment}\end{{document}}"
    (tmp_path / "document.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert said.returncode == 0, said.stdout
    assert "Missing character" not in said.stdout
    assert (tmp_path / "document.pdf").stat().st_size > 1000


@pytest.mark.parametrize("name", ["a & b", r"\input{x}", "50 %", "[x", "*x", "$x^2$", 'say "x"', "--x", "a\nb", "{"])
def test_no_name_breaks_a_row_of_latex(name: str) -> None:
    header, row = latex_cells(table(name).latex())
    assert len(row) == len(header) == 4
    assert row[0] == plain(name)
    line = next(line for line in table(name).latex().splitlines() if "33.33" in line)
    assert not line.startswith(("[", "*"))  # the row end before it would take it as an argument


def test_results_are_four_forms_and_a_csv_a_table(tmp_path: Path) -> None:
    second = Table(title="B", columns=COLUMNS[:1], rows=(Row(cells=("x",)),), slug="more")
    point = TarAtFar(THIRD, 1e-3, 1e-3, float("inf"), 3, 3000, "nearest")
    paths = write_results(tmp_path, "ijb", [table("one"), second], {"a": np.array([THIRD]), "p": point.threshold})
    assert [path.name for path in paths] == ["ijb.md", "ijb.tex", "ijb.csv", "ijb-more.csv", "ijb.json", "ijb.html"]
    assert json.loads((tmp_path / "ijb.json").read_text()) == {"a": [THIRD], "p": float("inf")}
    for ending in ("md", "tex"):
        assert all(title in (tmp_path / f"ijb.{ending}").read_text() for title in ("A title", "B"))
    assert (tmp_path / "ijb-more.csv").read_text() == "Origin,Name\nmeasured,x\n"
    before = {path: path.read_bytes() for path in paths}
    write_results(tmp_path, "ijb", [table("one"), second], {"a": np.array([THIRD]), "p": point.threshold})
    assert before == {path: path.read_bytes() for path in paths}
    with pytest.raises(ValueError, match=r"cannot write .*nowhere"):
        write_results(tmp_path / "nowhere", "ijb", [table("one")], {})


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_number_is_cut_off_where_the_terminal_is_narrow(width: int) -> None:
    names = [f"TAR@FAR=1e-0{k}" for k in range(1, 6)]
    columns = (Column(name="System", left=True), *(Column(name=name, shown="%", unit=SHARE) for name in names))
    cells = [share(THIRD / k, low=0.1 / k, high=0.4) for k in range(1, 6)]
    rows = tuple(Row(cells=(name, *cells)) for name in ("one", "runs/with/a/long/name"))
    stream = StringIO()
    Console(file=stream, width=width).print(Table(title="A title", columns=columns, rows=rows).terminal())
    shown = stream.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for name, cell in zip(names, cells, strict=True):
        assert shown.count(name) == 1
        assert shown.count(f"{cell.value}") >= 2
        assert shown.count(cell.interval) == 2
    assert shown.count("one") == {40: 5, 60: 3, 80: 2, 200: 1}[width]  # named again in every part
