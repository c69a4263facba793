import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qmargin.protocols.comparison import Comparison
from qmargin.report import write_report
from qmargin.report._markup import tag

VOID = {"meta", "link", "br", "img"}
OpenPage = Callable[..., Any]


class Page(HTMLParser):
    """What the tests ask of the page: balance, references, headings, labels, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open, f"</{name}> closes nothing"
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name in names]


@pytest.fixture(scope="module")
def report(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(comparison, path)
    return path


@pytest.fixture(scope="module")
def source(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def _written(comparison: Comparison, folder: Path) -> str:
    write_report(comparison, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_is_one_balanced_accessible_page(source: str) -> None:
    page = Page(source)
    assert page.all("html") == [{"lang": "en"}]
    headings = [int(name[1]) for name, _ in page.tags if re.fullmatch(r"h\d", name)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    assert len(page.all("figure")) == len(page.all("svg")) == len(page.all("figcaption")) == 5
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption")) == 3
    assert all("scope" in attributes for attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} | {"notes"}
    assert targets <= set(ids)


def test_sections_stand_in_the_order_of_reading(source: str) -> None:
    assert re.findall(r"<h[12][^>]*>([^<]*)<", source) == [
        "Q-Margin, ArcFace and CosFace on simulated faces",
        "Results",
        "What differs",
        "DET curves",
        "ROC curves",
        "Score histograms",
        "Support over training",
        "What is shared",
        "Notes",
        "Provenance",
    ]


def test_asks_no_other_place_for_anything(source: str) -> None:
    page = Page(source)
    assert not re.search(r"https?:|//[a-z]|@import|<script", source)
    references = [a[key] or "" for _, a in page.tags for key in ("src", "href", "xlink:href") if key in a]
    assert all(reference.startswith("#") or reference == "data:," for reference in references)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", source))
    assert "default-src 'none'" in str(page.all("meta"))


def test_says_what_the_comparison_holds(source: str) -> None:
    text = " ".join(" ".join(Page(source).text).split())
    for part in (
        "3 systems · 9 runs · 20 test subjects · 900 genuine trials · 3,600 impostor trials",
        "Q-Margin is distinguishably better than ArcFace in",
        "2 notes limit what this shows",
        "All runs share every setting but loss and the seed.",
        "name QMargin, alpha 1.5, scale 6, margin 0.1",
        "runs/q-margin-2",
        "3 settings shared by all runs",
        "optimizer.learning_rate 0.1",
        "data.source.path (empty)",
        "The scores are simulated: this page shows a layout, not a result.",
        "qmargin compare runs/arcface-0",
        "torch 2.13.0",
    ):
        assert part in text, part


def _hostile(comparison: Comparison) -> Comparison:
    evil = "<script>alert(1)</script>\"'&"
    arcface, cosface, qmargin = comparison.systems
    hostile = replace(cosface, name=evil, setting=evil, runs=(evil,))
    figures = (*comparison.figures[:2], replace(comparison.figures[2], name=f"EER{evil}"))
    systems = [
        replace(
            system,
            estimates={**system.estimates, f"EER{evil}": system.estimates["EER"]},
            differences={**system.differences, f"EER{evil}": system.differences["EER"]} if system.differences else {},
            false_accepts={f"EER{evil}": 3.0},
        )
        for system in (arcface, hostile, qmargin)
    ]
    return replace(
        comparison,
        title=evil,
        figures=figures,
        systems=tuple(systems),
        differing_field=evil,
        shared_settings={evil: evil},
        notes=(evil,),
        provenance={evil: evil},
    )


def test_escapes_all_that_others_wrote(comparison: Comparison, tmp_path: Path) -> None:
    source = _written(_hostile(comparison), tmp_path)
    page = Page(source)
    assert "<script" not in source
    assert not page.all("script")
    assert "".join(page.text).count("<script>alert(1)</script>\"'&") >= 15
    assert len(page.all("svg")) == 5


def test_dollars_of_others_are_no_placeholders(comparison: Comparison, tmp_path: Path) -> None:
    assert "<h1>$verdict $nothing $</h1>" in _written(replace(comparison, title="$verdict $nothing $"), tmp_path)


def test_is_the_same_every_time(comparison: Comparison, source: str, tmp_path: Path) -> None:
    assert _written(comparison, tmp_path) == source


def test_one_system_alone_is_shown_without_differences(comparison: Comparison, tmp_path: Path) -> None:
    alone = replace(comparison, systems=comparison.systems[:1], differing_field="")
    page = Page(_written(alone, tmp_path))
    assert len(page.all("table")) == 2
    assert len(page.all("svg")) == 4
    text = " ".join(page.text)
    assert "Only ArcFace was evaluated" in text
    assert "There is one system; its runs differ in nothing but the seed." in text


def test_says_what_is_not_known(comparison: Comparison, tmp_path: Path) -> None:
    bare = replace(comparison, differing_field="", shared_settings={}, provenance={}, notes=())
    text = " ".join(Page(_written(bare, tmp_path)).text)
    assert "No single field of the settings tells these systems apart" in text
    assert "No shared settings were recorded." in text
    assert "No provenance was recorded." in text
    assert "1 note limits what this shows" in text


def test_a_refused_comparison_leaves_the_old_page(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("before", encoding="utf-8")
    with pytest.raises(ValueError, match="at least one figure, got none"):
        write_report(replace(comparison, figures=()), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_named(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot write .*nowhere/report.html"):
        write_report(comparison, tmp_path / "nowhere" / "report.html")


def test_tags_escape_content_and_attributes() -> None:
    assert tag("td", "a<b", tag("b", "c"), class_='x"') == '<td class="x&quot;">a&lt;b<b>c</b></td>'


def test_opens_in_a_browser_without_complaint(report: Path, open_page: OpenPage) -> None:
    opened = open_page(report)
    assert opened.complaints == []
    assert "<title>Q-Margin, ArcFace and CosFace on simulated faces</title>" in opened.dom
    assert '<p class="verdict">Q-Margin is distinguishably better than ArcFace' in opened.dom
    assert opened.dom.count("<svg") == 5


@pytest.mark.parametrize(
    "script", ["console.error('broken')", "console.warn('broken')", "throw new Error('broken')", "fetch('//broken/')"]
)
def test_the_browser_test_can_fail(tmp_path: Path, open_page: OpenPage, script: str) -> None:
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><title>bad</title><script>{script}</script>", encoding="utf-8")
    assert any("broken" in complaint or "fetch" in complaint for complaint in open_page(page).complaints)


@pytest.mark.parametrize("width", [375, 1280])  # in a frame: a browser window is never narrower than 500
def test_nothing_overflows_sideways(comparison: Comparison, tmp_path: Path, open_page: OpenPage, width: int) -> None:
    arcface, cosface, qmargin = comparison.systems
    long = replace(cosface, name="A_long_name_without_a_break" * 5, setting="x" * 300, runs=("runs/" + "y" * 300,))
    wide = replace(
        comparison,
        title="T" * 200,
        systems=(arcface, long, qmargin),
        notes=("n" * 300,),
        provenance={"k" * 100: "v" * 300},
    )
    inner = html.escape(_written(wide, tmp_path).replace("<details", "<details open"))
    measure = "document.title = [f.contentWindow.innerWidth, f.contentDocument.documentElement.scrollWidth].join()"
    outer = f'<script>const show = f => {{ {measure} }}</script><iframe onload="show(this)" srcdoc="{inner}" style="'
    (tmp_path / "outer.html").write_text(f'{outer}border: 0; width: {width}px"></iframe>', encoding="utf-8")
    opened = open_page(tmp_path / "outer.html")
    assert re.findall(r"<title>(\d+,\d+)</title>", opened.dom) == [f"{width},{width}"]
