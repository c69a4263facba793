import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import ndtri

from qmargin.metrics import DetBand
from qmargin.protocols.comparison import Comparison, TrainingCurve
from qmargin.report._canvas import COLOUR, LIGHT_DARK, pens, pens_of
from qmargin.report.curve_plots import (
    Curve,
    _deviate_axis,
    _deviates,
    _limits,
    _paint_roc,
    curves_of,
    det_plot,
    roc_plot,
    write_curves,
)
from qmargin.report.forest_plot import forest_plot
from qmargin.report.histogram_plot import histogram_plot
from qmargin.report.support_plot import _band, support_plot

PLOTS = (det_plot, roc_plot, histogram_plot, support_plot, forest_plot)
Plot = Callable[[Comparison], str]
each_plot = pytest.mark.parametrize("plot", PLOTS)


def _texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314
    return ["".join(found.itertext()) for found in root.iter() if found.tag.rpartition("}")[2] == "text"]


@each_plot
def test_is_whole_labelled_and_without_references(comparison: Comparison, plot: Plot) -> None:
    svg = plot(comparison)
    root = ET.fromstring(svg)  # noqa: S314
    assert root.get("role") == "img"
    assert "Q-Margin" in (root.get("aria-label") or "")
    assert "http" not in svg
    assert "<style" not in svg
    name = plot.__name__.removesuffix("_plot")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert all(found.startswith(f"{name}-") for found in ids)
    assert {found[1:] for found in re.findall(r'(?:url\(|href=")(#[\w-]+)', svg)} <= set(ids)


@each_plot
def test_is_the_same_every_time_whatever_the_settings(comparison: Comparison, plot: Plot) -> None:
    first = plot(comparison)
    with mpl.rc_context({"font.size": 30.0, "xtick.major.size": 40.0}):
        assert plot(comparison) == first
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]


@each_plot
def test_colours_follow_the_theme(comparison: Comparison, plot: Plot) -> None:
    tags = "".join(re.findall(r"<[^>]*>", plot(comparison)))
    bare = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", tags)
    assert not re.findall(r"#[0-9a-f]{6}\b", bare)
    assert "var(--ink, " in tags


@each_plot
@pytest.mark.parametrize("name", ["_hidden", "$x^{2$", "名前", "a < b & c", "#ffffff id=", "long " * 40])
def test_any_name_is_drawn_as_it_is(comparison: Comparison, plot: Plot, name: str) -> None:
    arcface, cosface, qmargin = comparison.systems
    texts = _texts(plot(replace(comparison, systems=(arcface, replace(cosface, name=name), qmargin))))
    shown = [text for text in texts if text == name or ("…" in text and text.startswith("long l"))]
    assert shown, texts


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_of_text_and_lines(theme: int) -> None:
    surface = _luminance(LIGHT_DARK["surface"][theme])
    for role, pair in LIGHT_DARK.items():
        if role in ("surface", "rule", "impostor"):  # decoration, or an area that is named beside it
            continue
        light, dark = sorted((_luminance(pair[theme]), surface), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, role


def test_pens_differ_and_the_baseline_is_grey(comparison: Comparison) -> None:
    arcface, cosface, _ = comparison.systems
    many = replace(comparison, systems=(*(replace(cosface, name=str(k)) for k in range(15)), arcface))
    found = pens(many)
    assert found["ArcFace"].colour == COLOUR["series-0"]
    assert len({(pen.colour, pen.dashes) for pen in found.values()}) == 16


def test_det_axes_reach_down_to_one_error_and_mark_thirty(comparison: Comparison) -> None:
    far, frr = _limits(curves_of(comparison))
    assert far[0] == 1.0 / comparison.impostor
    assert frr[0] == 1.0 / comparison.genuine
    assert "30 false accepts" in _texts(det_plot(comparison))
    assert "30 false accepts" in _texts(roc_plot(comparison))
    tiny = replace(comparison, impostor=50, genuine=50)
    assert "30 false accepts" not in _texts(det_plot(tiny))


def test_labels_of_ticks_do_not_run_into_each_other() -> None:
    figure = Figure(figsize=(4.5, 4.2), dpi=100)
    axes = figure.add_subplot()
    _deviate_axis(axes, "x", (6e-8, 0.5))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) > 5
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_det_ticks_are_percent_and_roc_is_logarithmic(comparison: Comparison) -> None:
    texts = _texts(det_plot(comparison))
    assert {"0.1", "1", "10", "40"} <= set(texts)
    assert "False accepts, FAR = P_fa (%)" in texts
    assert "TAR = 1 - P_miss (%)" in _texts(roc_plot(comparison))


def _curve(name: str, far: list[float], frr: list[float], spread: float = 0.01) -> Curve:
    rates = np.array(frr)
    band = DetBand(np.array(far), rates, rates - spread, rates + spread, 0.95, 100, "wilson")
    return Curve(name=name, band=band, genuine=100, impostor=1000)


def test_deviates_keep_the_band_around_the_line_and_inside_the_frame() -> None:
    curve = _curve("a", [1e-3, 1e-2, 1.0], [0.5, 0.02, 0.0])
    far, frr, low, high = _deviates(curve.band, (1e-3, 0.5), (1e-2, 0.9))
    assert far[:2] == pytest.approx(ndtri([1e-3, 1e-2]))
    assert frr == pytest.approx(ndtri([0.5, 0.02, 1e-2]))
    assert low[0] < frr[0] < high[0]
    assert np.isfinite([far, frr, low, high]).all()


@pytest.mark.parametrize("frr", [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.9, 0.5, 0.0], [0.5, 0.1, 0.0]])
def test_collapsed_perfect_and_inverted_systems_are_drawn(change: Callable[..., Comparison], frr: list[float]) -> None:
    rates = np.array(frr)
    band = DetBand(np.array([1e-3, 1e-1, 1.0]), rates, rates, rates, 0.95, 100, "wilson")
    drawn = change("CosFace", band=band)
    (far_low, far_high), (frr_low, frr_high) = _limits(curves_of(drawn))
    assert 0.0 < far_low < far_high <= 0.5
    assert 0.0 < frr_low < frr_high <= 0.9
    for plot in (det_plot, roc_plot):
        assert "nan" not in plot(drawn)


def test_the_drawn_line_and_band_are_the_numbers(comparison: Comparison) -> None:
    figure = Figure()
    curves = curves_of(comparison)
    styles = pens_of([curve.name for curve in curves], comparison.baseline)
    _paint_roc(curves, styles, figure)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    for curve, line, area in zip(curves, axes.lines, axes.collections, strict=False):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), 100.0 * curve.band.tar)
        np.testing.assert_allclose(np.asarray(line.get_xdata()), curve.band.far)
        corners = np.asarray(area.get_paths()[0].vertices)
        seen = curve.band.frr > 0.0
        assert corners[:, 0].max() == pytest.approx(curve.band.far[seen].max())
        assert corners[:, 1].min() == pytest.approx(100.0 * curve.band.tar_low[seen].min())
        assert corners[:, 1].max() == pytest.approx(100.0 * curve.band.tar_high[seen].max())
        assert not seen.all()  # where no error was seen there is no band


def test_curves_become_files_on_white_the_same_every_time(tmp_path: Path) -> None:
    curves = [_curve("runs/a_b $x", [1e-3, 1.0], [0.5, 0.1]), _curve("other", [1e-3, 1.0], [0.4, 0.1])]
    paths = write_curves(tmp_path, "ijb", curves)
    assert [path.name for path in paths] == ["ijb-det.svg", "ijb-det.png", "ijb-roc.svg", "ijb-roc.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_curves(tmp_path, "ijb", curves)] == before
    for path in paths[::2]:
        texts = _texts(path.read_text())
        assert {"runs/a_b $x", "other", "30 false accepts"} <= set(texts)
    for path in paths[1::2]:
        with Image.open(path) as image:
            assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
            assert image.width > 1500
    with pytest.raises(ValueError, match=r"cannot write .*nowhere"):
        write_curves(tmp_path / "nowhere", "ijb", curves)


def test_lists_of_different_lengths_have_no_common_mark_of_thirty(tmp_path: Path) -> None:
    longer = replace(_curve("b", [1e-3, 1.0], [0.5, 0.1]), impostor=5000)
    paths = write_curves(tmp_path, "x", [_curve("a", [1e-3, 1.0], [0.5, 0.1]), longer])
    assert "30 false accepts" not in _texts(paths[0].read_text())


def test_support_band_is_mean_and_range_over_seeds() -> None:
    curves = (
        TrainingCurve(seed=0, steps=np.array([0.0, 10.0, 20.0]), values=np.array([4.0, 2.0, 1.0])),
        TrainingCurve(seed=1, steps=np.array([0.0, 20.0, 30.0]), values=np.array([8.0, 4.0, 4.0])),
    )
    steps, mean, low, high = _band(curves)
    np.testing.assert_allclose(steps, [0.0, 10.0, 20.0])
    np.testing.assert_allclose(mean, [6.0, 4.0, 2.5])
    np.testing.assert_allclose(low, [4.0, 2.0, 1.0])
    np.testing.assert_allclose(high, [8.0, 6.0, 4.0])


def test_support_band_keeps_the_extremes_of_a_long_log() -> None:
    values = np.full(10_000, 5.0)
    values[4321] = 500.0
    steps, _, low, high = _band(
        (TrainingCurve(seed=0, steps=np.linspace(0.0, 1e6, 10_000, dtype=np.float64), values=values),)
    )
    assert steps.size <= 240
    assert high.max() == 500.0
    assert low.min() == 5.0


def test_support_needs_steps_in_common() -> None:
    early = TrainingCurve(seed=0, steps=np.array([0.0, 1.0]), values=np.array([2.0, 2.0]))
    late = TrainingCurve(seed=1, steps=np.array([5.0, 6.0]), values=np.array([2.0, 2.0]))
    with pytest.raises(ValueError, match="the seeds 0, 1 have no common range of steps"):
        _band((early, late))


def test_histogram_has_one_panel_a_system(comparison: Comparison) -> None:
    texts = _texts(histogram_plot(comparison))
    assert [texts.count(name) for name in ("ArcFace", "CosFace", "Q-Margin", "genuine", "impostor")] == [1, 1, 1, 3, 3]


def test_forest_says_which_side_is_better(comparison: Comparison) -> None:
    texts = _texts(forest_plot(comparison))
    assert "EER: left is better" in texts
    assert "TAR@FAR=1e-02: right is better" in texts
    assert "Difference to ArcFace (percentage points)" in texts
