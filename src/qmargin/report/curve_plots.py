"""DET and ROC curves with their pointwise bands over subjects, for the page and as files.

DET: normal-deviate axes; where both score distributions are normal, the curve is a straight line. ROC: TAR over FAR on
a logarithmic axis. Line: the trials as they are, of several seeds the mean at equal FAR. Both begin at one false accept
of the list; left of 30 a curve is an indication. Where the trials show no error at all no band is drawn: it would say
how few people there are, not how sure the curve is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.special import ndtri

from qmargin.metrics import DetBand
from qmargin.protocols.comparison import Comparison, Floats
from qmargin.protocols.few import FEW_FALSE_ACCEPTS
from qmargin.report._canvas import COLOUR, Pen, draw, pens_of, write_plot
from qmargin.report._legend import add_legend, legend_height
from qmargin.report._numbers import listed, plain

CHARACTER = 1.0 / 45.0  # of a tick's label, as a share of the axis
TICKS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999)
HIGHEST_FAR = 0.5  # beyond, a verifier is a coin
HIGHEST_FRR = 0.9
ALMOST_ONE = 1.0 - 1e-9  # 1 lies at infinity
SHADE = 0.16  # opacity of a band: where two lie over each other both are seen
DET_HEIGHT, ROC_HEIGHT = 5.1, 3.6  # inches, without the legend

Limits = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A band with its name and the sizes of the list it is of."""

    name: str
    band: DetBand
    genuine: int
    impostor: int


def curves_of(comparison: Comparison) -> list[Curve]:
    """The curves of a checked comparison, one a system."""
    sizes = {"genuine": comparison.genuine, "impostor": comparison.impostor}
    return [Curve(name=system.name, band=system.band, **sizes) for system in comparison.systems]


def curve_plots(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """DET and ROC of any curves as SVG text to stand inside a page, each with its caption."""
    shaded = "Shaded: pointwise 95 % bands over subjects."
    return [
        (_drawn("det", "DET curves", curves, DET_HEIGHT), f"DET curves, normal-deviate axes. {shaded}"),
        (_drawn("roc", "ROC curves", curves, ROC_HEIGHT), f"ROC curves, logarithmic FAR. {shaded}"),
    ]


def det_plot(comparison: Comparison) -> str:
    """DET curves of a checked comparison as SVG text, one line a system."""
    return _drawn("det", "DET curves", curves_of(comparison), DET_HEIGHT, comparison.baseline)


def roc_plot(comparison: Comparison) -> str:
    """ROC curves of a checked comparison as SVG text, one line a system."""
    return _drawn("roc", "ROC curves", curves_of(comparison), ROC_HEIGHT, comparison.baseline)


def write_curves(folder: Path, name: str, curves: Sequence[Curve], baseline: str | None = None) -> list[Path]:
    """Write `NAME-det` and `NAME-roc`, each as .svg and .png, on white.

    Args:
        folder: must exist.
        name: of the files, as "ijb".
        curves: at least one; their names differ.
        baseline: name of the curve that is drawn grey and dashed.

    Returns:
        The paths.

    Raises:
        ValueError: the folder cannot be written.
    """
    styles = pens_of([curve.name for curve in curves], baseline)
    assert len(styles) == len(curves) > 0, list(styles)
    found = []
    for kind, (height, paint) in PAINTERS.items():
        tall = height + legend_height(styles)
        found += write_plot(folder / f"{name}-{kind}", tall, partial(paint, curves, styles))
    return found


def _drawn(kind: str, what: str, curves: Sequence[Curve], height: float, baseline: str | None = None) -> str:
    styles = pens_of([curve.name for curve in curves], baseline)
    names = listed([plain(curve.name) for curve in curves])
    label = f"{what} of {names} with their 95 % bands over subjects."
    return draw(kind, label, height + legend_height(styles), partial(PAINTERS[kind][1], curves, styles))


def _paint_det(curves: Sequence[Curve], styles: Mapping[str, Pen], figure: Figure) -> None:
    axes = figure.add_subplot()
    far_limits, frr_limits = _limits(curves)
    for curve in curves:
        far, *rates = _deviates(curve.band, far_limits, frr_limits)
        _line_with_band(axes, styles[curve.name], curve.band.frr, far, *rates)
    _deviate_axis(axes, "x", far_limits)
    _deviate_axis(axes, "y", frr_limits)
    axes.set_xlabel("False accepts, FAR = P_fa (%)")
    axes.set_ylabel("False rejects, FRR = P_miss (%)")
    axes.grid(visible=True)
    _mark_thirty(axes, curves, (float(ndtri(far_limits[0])), float(ndtri(far_limits[1]))), ndtri)
    add_legend(figure, styles)


def _paint_roc(curves: Sequence[Curve], styles: Mapping[str, Pen], figure: Figure) -> None:
    axes = figure.add_subplot()
    for curve in curves:
        band = curve.band
        tars = (100.0 * rates for rates in (band.tar, band.tar_low, band.tar_high))
        _line_with_band(axes, styles[curve.name], band.frr, band.far, *tars)
    lowest = min(float(curve.band.far[0]) for curve in curves)
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1.0)
    axes.xaxis.set_major_locator(LogLocator(numticks=10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(_roc_floor(curves), 100.4)
    axes.set_xlabel("False accepts, FAR = P_fa")
    axes.set_ylabel("TAR = 1 - P_miss (%)")
    axes.grid(visible=True)
    _mark_thirty(axes, curves, (lowest, 1.0), lambda far: far)
    add_legend(figure, styles)


PAINTERS = {"det": (DET_HEIGHT, _paint_det), "roc": (ROC_HEIGHT, _paint_roc)}


def _line_with_band(axes: Axes, pen: Pen, errors: Floats, far: Floats, rate: Floats, *ends: Floats) -> None:
    """Errors are FRR (points,); `rate` and `ends` are it and its interval as they are drawn."""
    low, high = ends
    seen = slice(0, int(np.count_nonzero(errors > 0.0)))  # errors fall along the curve
    axes.fill_between(
        far[seen], low[seen], high[seen], color=pen.colour, alpha=SHADE, linewidth=0, zorder=pen.layer - 1.0
    )
    axes.plot(far, rate, color=pen.colour, linestyle=pen.dashes, zorder=pen.layer)


def _limits(curves: Sequence[Curve]) -> tuple[Limits, Limits]:
    """FAR and FRR from one error of the list up to what the curves and their bands reach within that."""
    far_low = min(1.0 / curve.impostor for curve in curves)
    frr_low = min(1.0 / curve.genuine for curve in curves)
    far_high = max(float(band.far[max(int(np.searchsorted(-band.frr, -frr_low)) - 1, 0)]) for band in _bands(curves))
    frr_high = max(float(band.high[0]) for band in _bands(curves))
    return (
        (min(far_low, 0.05), min(max(far_high, 0.1), HIGHEST_FAR)),
        (min(frr_low, 0.05), min(max(1.05 * frr_high, 0.1), HIGHEST_FRR)),
    )


def _bands(curves: Sequence[Curve]) -> list[DetBand]:
    return [curve.band for curve in curves]


def _deviates(band: DetBand, far_limits: Limits, frr_limits: Limits) -> Floats:
    """FAR, FRR and its interval in normal deviates, no lower than the frame: (4, points)."""
    lowest = np.array([[far_limits[0]], *[[frr_limits[0]]] * 3])
    rates = np.stack([band.far, band.frr, band.low, band.high])
    found: Floats = ndtri(np.clip(rates, lowest, ALMOST_ONE))
    return found


def _roc_floor(curves: Sequence[Curve]) -> float:
    """The lowest TAR of a line or band, in per cent, a little below; bands that reach to 0 are cut at 0."""
    lowest = 100.0 * min(float(band.tar_low.min()) for band in _bands(curves))
    return max(lowest - 0.03 * (100.0 - lowest), 0.0) if lowest < 99.9 else 99.0


def _deviate_axis(axes: Axes, which: str, limits: Limits) -> None:
    low, high = (float(ndtri(limit)) for limit in limits)
    ticks: list[float] = []
    shown: list[str] = []
    for tick in TICKS:
        place, text = float(ndtri(tick)), f"{100.0 * tick:g}"
        # half of both labels and a gap between them, as a share of the axis
        apart = max(1.0 / 14.0, CHARACTER * (len(shown[-1]) + len(text) + 2) / 2.0 if shown and which == "x" else 0.0)
        if low <= place <= high and (not ticks or place - ticks[-1] > (high - low) * apart):
            ticks.append(place)
            shown.append(text)
    if which == "x":
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, shown)
    else:
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, shown)


def _mark_thirty(axes: Axes, curves: Sequence[Curve], limits: Limits, place_of: Callable[[float], float]) -> None:
    """Where a curve rests on fewer than 30 false accepts; nothing where the lists are of different lengths."""
    if len({curve.impostor for curve in curves}) > 1:
        return
    place = float(place_of(min(FEW_FALSE_ACCEPTS / curves[0].impostor, 1.0)))
    if not limits[0] < place < limits[1]:
        return
    axes.axvspan(limits[0], place, color=COLOUR["rule"], alpha=0.35, linewidth=0)
    axes.axvline(place, color=COLOUR["muted"], linewidth=0.8)
    axes.annotate(
        "30 false accepts",
        (place, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=COLOUR["muted"],
    )
