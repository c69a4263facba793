"""The page of one evaluation: tables, curves, worst errors; no text of it is markup, and it asks no other place."""

import csv
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qmargin.metrics import DetBand
from qmargin.protocols.worst import ScoredPair, WorstErrors
from qmargin.report import Table, write_results
from qmargin.report._amount import share
from qmargin.report.curve_plots import Curve
from qmargin.report.gallery import Gallery
from qmargin.report.protocol_page import protocol_page
from qmargin.report.table import SHARE, Column, Row

OpenPage = Callable[[Path], Any]
COLUMNS = (Column(name="System", left=True), Column(name="EER", shown="%", unit=SHARE))
PICTURE = "data:image/jpeg;base64,AAAA"


def pair(first: str, second: str, score: float, *, is_error: bool) -> ScoredPair:
    return ScoredPair(
        first=first, second=second, first_subject="s1", second_subject="s2", score=score, is_error=is_error, trial=0
    )


def worst() -> WorstErrors:
    impostors = (pair("a/<1>.png", "b/1.png", 0.91, is_error=True), pair("a/2.png", "b/1.png", 0.2, is_error=False))
    return WorstErrors(impostors=impostors, genuine=(pair("c", "d", 0.1, is_error=True),), far=0.01, threshold=0.5)


def tables(name: str = "runs/first") -> list[Table]:
    row = Row(cells=(name, share(0.123, low=0.1, high=0.2)))
    quoted = Row(cells=("published: r50", share(0.05)), published=True)
    return [
        Table(title="All pairs", columns=COLUMNS, rows=(row, quoted), notes=("a note",), sources=("a source",)),
        Table(title="Second", columns=COLUMNS, rows=(row,), slug="second"),
    ]


def curve() -> Curve:
    frr = np.array([0.5, 0.1])
    band = DetBand(np.array([1e-3, 1.0]), frr, frr, frr, 0.95, 100, "wilson")
    return Curve(name="first", band=band, genuine=100, impostor=1000)


def test_it_shows_tables_curves_and_pairs_in_that_order() -> None:
    page = protocol_page(tables(), [curve()], [Gallery(worst=worst())])
    assert re.findall(r"<h[123][^>]*>([^<]*)<", page) == [
        "All pairs",
        "Second",
        "Curves",
        "Worst errors",
        "The 2 impostor pairs that score highest",
        "The 1 genuine pairs that score lowest",
    ]
    assert "12.30 [10.00, 20.00]" in page
    assert page.index("runs/first") < page.index("published: r50")
    assert all(text in page for text in ("a note", "a source", "0.9100", "accepted, wrong", "refused, right"))
    assert page.count("<svg") == 2
    assert "<img" not in page
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", page)


def test_pictures_stand_where_they_were_asked_for_and_names_are_text() -> None:
    page = protocol_page(tables("<b>x</b>"), (), [Gallery(worst=worst(), thumbnails={"a/<1>.png": PICTURE})])
    assert page.count("<img") == 1
    assert f'src="{PICTURE}"' in page
    assert "a/&lt;1&gt;.png" in page
    assert "<b>x</b>" not in page
    assert "a/<1>" not in page


def test_worst_errors_are_a_csv_too(tmp_path: Path) -> None:
    paths = write_results(tmp_path, "metrics", tables(), {}, worst=[Gallery(worst=worst())])
    assert "metrics-worst.csv" in [path.name for path in paths]
    lines = list(csv.reader(StringIO((tmp_path / "metrics-worst.csv").read_text())))
    assert lines[0][1:] == ["Kind", "First", "Second", "First subject", "Second subject", "Score (score)", "Decision"]
    assert lines[1][1:] == ["impostor", "a/<1>.png", "b/1.png", "s1", "s2", "0.91", "accepted, wrong"]
    assert [line[1] for line in lines[1:]] == ["impostor", "impostor", "genuine"]
    assert [line[-1] for line in lines[2:]] == ["refused, right", "refused, wrong"]
    written = {path.name for path in write_results(tmp_path, "x", tables(), {}, page=False)}
    assert "x.html" not in written


def test_a_browser_opens_it_without_complaint(open_page: OpenPage, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(protocol_page(tables(), [curve()], [Gallery(worst=worst())]))
    assert open_page(path).complaints == []


@pytest.mark.parametrize("name", ["metrics-det.svg", "metrics-roc.png", "metrics.html", "metrics-second.csv"])
def test_everything_is_there(tmp_path: Path, name: str) -> None:
    write_results(tmp_path, "metrics", tables(), {}, [curve()])
    assert (tmp_path / name).stat().st_size > 0
