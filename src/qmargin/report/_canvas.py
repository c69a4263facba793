"""What all plots share: one palette for both themes, one pen a system, and the way from matplotlib to SVG text.

A plot is a function that paints on a `matplotlib.figure.Figure`; pyplot and its global state are never touched. The SVG
is meant to stand inside an HTML page: its text stays text, its colours are CSS variables that follow the page's theme
(with the light colours as fallback), its ids carry the plot's name, and equal input gives equal bytes.
"""

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from qmargin._files import replacing
from qmargin.protocols.comparison import Comparison
from qmargin.report._numbers import plain

PLAIN = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # nothing that changes from run to run
WIDTH = 5.6  # inches; small, so that on a phone the text shrinks to 85 % and not to half
LIGHT_DARK = {  # role: colour on white, colour on black; contrast at least 3 (lines) or 4.5 (text) on the surface
    "surface": ("#ffffff", "#15181c"),
    "ink": ("#1c2127", "#e6e8eb"),
    "muted": ("#59626d", "#a3abb5"),
    "rule": ("#d5dae0", "#363d46"),
    "impostor": ("#b9c0c8", "#565f6a"),
    "series-0": ("#3f4853", "#c9ced5"),  # the baseline: grey, dashed
    "series-1": ("#0068a8", "#5cb3f0"),
    "series-2": ("#c04a00", "#ff9a57"),
    "series-3": ("#00795a", "#3fca9c"),
    "series-4": ("#94408a", "#e08fd6"),
    "series-5": ("#806300", "#dcb93c"),
}
COLOUR = {role: light for role, (light, _) in LIGHT_DARK.items()}
DASHES = (
    "-",
    (0, (6, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
)  # after five colours the next stroke, so pens never repeat soon
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qmargin",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 10.0,
    "text.color": COLOUR["ink"],
    "axes.labelcolor": COLOUR["ink"],
    "axes.edgecolor": COLOUR["muted"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.axisbelow": True,
    "xtick.color": COLOUR["muted"],
    "ytick.color": COLOUR["muted"],
    "grid.color": COLOUR["rule"],
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Pen:
    """Colour and stroke of one system, the same in every plot."""

    colour: str
    dashes: str | tuple[int, tuple[float, ...]]
    layer: float  # the dashed baseline lies on top: what it covers shows through


def pens(comparison: Comparison) -> dict[str, Pen]:
    """A pen for each system by name, in the order of the systems."""
    return pens_of([system.name for system in comparison.systems], comparison.baseline)


def pens_of(names: Sequence[str], baseline: str | None = None) -> dict[str, Pen]:
    """A pen for each name: that of the baseline is dashed grey, the others take the colours in turn."""
    found: dict[str, Pen] = {}
    for name in names:
        place = len(found) - (baseline in found)
        colour = Pen(COLOUR[f"series-{place % 5 + 1}"], DASHES[place // 5 % len(DASHES)], 2.0)
        found[name] = Pen(COLOUR["series-0"], (0, (3.5, 1.5)), 3.0) if name == baseline else colour
    return found


def palette_css() -> str:
    """The palette as CSS variables, for the light and the dark theme."""
    light, dark = (" ".join(f"--{role}: {pair[k]};" for role, pair in LIGHT_DARK.items()) for k in (0, 1))
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"


def draw(name: str, label: str, height: float, paint: Callable[[Figure], None]) -> str:
    """Paint a figure of `height` inches and return it as SVG text to stand inside an HTML page.

    Args:
        name: of the plot, unique within the page; prefixes the ids.
        label: what a reader who cannot see the plot is told.
        height: in inches, for a width of 5.6.
        paint: draws on the empty figure.
    """
    buffer = io.StringIO()
    with _painted(height, paint) as figure:
        figure.savefig(buffer, format="svg", metadata=PLAIN)
    return _embeddable(buffer.getvalue(), name, label)


def write_plot(path: Path, height: float, paint: Callable[[Figure], None]) -> list[Path]:
    """Paint a figure and write it on white as `path`.svg and `path`.png (300 pixels an inch), for papers and slides.

    Raises:
        ValueError: the folder cannot be written.
    """
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("svg", "png")]
    with _painted(height, paint) as figure:
        figure.set_facecolor("white")
        with replacing(files[0]) as temporary:
            figure.savefig(temporary, format="svg", metadata=PLAIN)
        with replacing(files[1]) as temporary:
            figure.savefig(temporary, format="png", dpi=300, metadata={"Software": None})
    return files


@contextmanager
def _painted(height: float, paint: Callable[[Figure], None]) -> Iterator[Figure]:
    """The figure under our settings, whatever the user's are."""
    with style.context(["default", SETTINGS]), warnings.catch_warnings():
        # the browser sets the text, with its own fonts: what matplotlib's font lacks does not matter
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        yield figure


def _embeddable(svg: str, name: str, label: str) -> str:
    opening = re.search(r"<svg [^>]*>", svg)
    view = re.search(r'viewBox="([^"]*)"', svg)
    assert opening, "matplotlib wrote no <svg>"
    assert view, "matplotlib wrote no viewBox"
    body = re.sub(r"<style[^>]*>.*?</style>", "", svg[opening.end() :], flags=re.DOTALL)  # it would rule the whole page
    body = re.sub(r"<[^>]*>", lambda found: _retagged(found[0], name), body)  # tags only: a name may look like a colour
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(plain(label))}">{body.strip()}'


def _retagged(text: str, name: str) -> str:
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", text)
    text = re.sub(r'font: ([^;"]*?px) [^;"]*', r"font: \1 system-ui, sans-serif", text)
    for role, colour in COLOUR.items():
        text = text.replace(colour, f"var(--{role}, {colour})")
    return text
