"""DET curves on normal-deviate axes: where both score distributions are normal, the curve is a straight line."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from qmargin.metrics.det import DetCurve
from qmargin.protocols.comparison import Comparison, Floats
from qmargin.protocols.verification import FEW_FALSE_ACCEPTS
from qmargin.report._canvas import COLOUR, draw, pens
from qmargin.report._legend import add_legend, legend_height
from qmargin.report._numbers import listed, plain

TICKS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999)
HIGHEST_FAR = 0.5  # beyond, a verifier is a coin
ALMOST_ONE = 1.0 - 1e-9  # 1 lies at infinity
HIGHEST_FRR = 0.9
LONG_STEP = 0.01  # of both rates at once
PIXEL = 0.004  # normal deviates: about a quarter of a pixel; finer detail of a curve is not drawn

Limits = tuple[float, float]


def det_plot(comparison: Comparison) -> str:
    """DET curves of a checked comparison as SVG text, one line a system, all seeds' trials pooled.

    The FAR reaches down to one false accept of the trial list; a thin line stands at 30, left of which a curve is an
    indication. A curve that runs along the frame has less than one error there.
    """
    names = listed([plain(system.name) for system in comparison.systems])
    label = f"DET curves of {names}: false reject rate against false accept rate on normal-deviate axes."
    return draw("det", label, 5.1 + legend_height(comparison), partial(_paint, comparison))


def _paint(comparison: Comparison, figure: Figure) -> None:
    axes = figure.add_subplot()
    far_limits, frr_limits = _limits(comparison)
    styles = pens(comparison)
    for system in comparison.systems:
        pen = styles[system.name]
        axes.plot(*_path(system.det, far_limits, frr_limits), color=pen.colour, linestyle=pen.dashes, zorder=pen.layer)
    _axis(axes, "x", far_limits)
    _axis(axes, "y", frr_limits)
    axes.set_xlabel("False accepts, FAR = P_fa (%)")
    axes.set_ylabel("False rejects, FRR = P_miss (%)")
    axes.grid(visible=True)
    _mark_thirty(axes, FEW_FALSE_ACCEPTS / comparison.impostor, far_limits)
    add_legend(figure, comparison)


def _limits(comparison: Comparison) -> tuple[Limits, Limits]:
    """FAR and FRR from one error of the trial list up to what the curves reach within that."""
    far_low, frr_low = 1.0 / comparison.impostor, 1.0 / comparison.genuine
    curves = [system.det for system in comparison.systems]
    far_high = max(float(np.interp(frr_low, det.frr, det.far)) for det in curves)
    frr_high = max(float(np.interp(far_low, det.far[::-1], det.frr[::-1])) for det in curves)
    return (
        (min(far_low, 0.05), min(max(far_high, 0.1), HIGHEST_FAR)),
        (min(frr_low, 0.05), min(max(1.1 * frr_high, 0.1), HIGHEST_FRR)),
    )


def _path(det: DetCurve, far_limits: Limits, frr_limits: Limits) -> tuple[Floats, Floats]:
    """The curve in normal deviates, no lower than the frame and thinned to what can be seen.

    Two points that share one step, because genuine and impostor trials tie, are joined straight in rates, not deviates.
    """
    lowest = np.array([[far_limits[0]], [frr_limits[0]]])
    points = ndtri(np.clip(_joined(np.stack([det.far, det.frr])), lowest, ALMOST_ONE))
    moved = (np.diff(np.rint(points / PIXEL), axis=1) != 0.0).any(axis=0)
    points = points[:, np.concatenate([[True], moved])]
    return points[0], points[1]


def _joined(rates: Floats) -> Floats:
    """Add points on every long step in which both rates change: (2, points) -> (2, more points)."""
    long = np.flatnonzero((np.abs(np.diff(rates)) > LONG_STEP).all(axis=0))
    shares = np.linspace(0.0, 1.0, 200)[1:-1]
    added = [rates[:, k, None] + np.outer(rates[:, k + 1] - rates[:, k], shares) for k in long]
    return np.insert(rates, np.repeat(long + 1, shares.size), np.hstack(added), axis=1) if added else rates


def _axis(axes: Axes, which: str, limits: Limits) -> None:
    low, high = (float(ndtri(limit)) for limit in limits)
    ticks: list[float] = []
    for tick in TICKS:
        place = float(ndtri(tick))
        if low <= place <= high and (not ticks or place - ticks[-1] > (high - low) / 14.0):
            ticks.append(place)
    shown = [f"{100.0 * tick:g}" for tick in TICKS if float(ndtri(tick)) in ticks]
    if which == "x":
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, shown)
    else:
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, shown)


def _mark_thirty(axes: Axes, far: float, limits: Limits) -> None:
    if not limits[0] < far < limits[1]:
        return
    place = float(ndtri(far))
    axes.axvspan(float(ndtri(limits[0])), place, color=COLOUR["rule"], alpha=0.35, linewidth=0)
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
