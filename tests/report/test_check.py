from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qmargin.protocols.comparison import Comparison, Difference, Estimate, TrainingCurve
from qmargin.report import comparison_markdown
from qmargin.report._check import check

Change = Callable[..., Comparison]
NAN = float("nan")


def test_accepts_a_whole_comparison(comparison: Comparison) -> None:
    check(comparison)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"title": " \n"}, "needs a title"),
        ({"systems": ()}, "at least one system, got none"),
        ({"figures": ()}, "at least one figure, got none"),
        ({"baseline": "SphereFace"}, "must be one of the systems ArcFace, CosFace, Q-Margin, got 'SphereFace'"),
        ({"subjects": 0}, "subjects must be at least 1, got 0"),
        ({"impostor": 0}, "impostor must be at least 1, got 0"),
    ],
)
def test_refuses_a_head_with_a_hole(comparison: Comparison, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(replace(comparison, **fields))


def test_refuses_two_systems_of_one_name(comparison: Comparison) -> None:
    twice = replace(comparison, systems=comparison.systems + comparison.systems[1:2])
    with pytest.raises(ValueError, match="system names must differ, got 'CosFace' more than once"):
        check(twice)


def test_refuses_a_missing_or_broken_estimate(comparison: Comparison, change: Change) -> None:
    estimates = dict(comparison.systems[2].estimates)
    estimates["EER"] = Estimate(mean=NAN, spread=None, low=0.0, high=1.0)
    with pytest.raises(ValueError, match="'Q-Margin', estimate of 'EER' must be finite"):
        check(change("Q-Margin", estimates=estimates))
    estimates["EER"] = Estimate(mean=0.5, spread=None, low=0.6, high=0.4)
    with pytest.raises(ValueError, match=r"'Q-Margin', estimate of 'EER' must have low <= high, got \[0.6, 0.4\]"):
        check(change("Q-Margin", estimates=estimates))
    del estimates["EER"]
    with pytest.raises(ValueError, match="'Q-Margin', estimate of 'EER' is missing; evaluate it"):
        check(change("Q-Margin", estimates=estimates))


def test_refuses_differences_that_do_not_fit(comparison: Comparison, change: Change) -> None:
    whole = comparison.systems[2].differences
    with pytest.raises(ValueError, match="'Q-Margin', difference of 'TAR@FAR=1e-02' to the baseline is missing"):
        check(change("Q-Margin", differences={}))
    with pytest.raises(ValueError, match="baseline 'ArcFace' must have no differences"):
        check(change("ArcFace", differences=whole))
    percent = {**whole, "EER": Difference(mean=0.0, low=0.0, high=0.0, won=87.0)}
    with pytest.raises(ValueError, match=r"won must be in \[0, 1\], got 87.0"):
        check(change("Q-Margin", differences=percent))


def test_refuses_counts_runs_and_seeds_that_make_no_sense(change: Change) -> None:
    with pytest.raises(ValueError, match="'CosFace', false_accepts of 'EER' must be a count >= 0, got nan"):
        check(change("CosFace", false_accepts={"EER": NAN}))
    with pytest.raises(ValueError, match="'CosFace' must name its seeds and runs"):
        check(change("CosFace", seeds=()))


def test_refuses_a_broken_band(comparison: Comparison, change: Change) -> None:
    band = comparison.systems[0].band
    with pytest.raises(ValueError, match=r"'ArcFace', DET curve: high must be shares in \[0, 1\]"):
        check(change("ArcFace", band=replace(band, high=band.high + 100.0)))
    with pytest.raises(ValueError, match=r"'ArcFace', DET curve: arrays must be of one shape \(n,\) with n >= 1"):
        check(change("ArcFace", band=replace(band, low=band.low[:1])))
    with pytest.raises(ValueError, match="'ArcFace', DET curve must be finite, got nan or inf"):
        check(change("ArcFace", band=replace(band, frr=band.frr * NAN)))


def test_refuses_histograms_that_do_not_compare(comparison: Comparison, change: Change) -> None:
    histogram = comparison.systems[1].histogram
    with pytest.raises(ValueError, match="'CosFace', histogram: all systems must share the same edges"):
        check(change("CosFace", histogram=replace(histogram, edges=histogram.edges + 0.1)))
    with pytest.raises(
        ValueError, match="'CosFace', histogram: edges must rise and be one more than the 54 bins, got 54"
    ):
        check(change("CosFace", histogram=replace(histogram, edges=histogram.edges[1:])))


def test_refuses_support_that_cannot_be_drawn(change: Change) -> None:
    with pytest.raises(ValueError, match="'CosFace', support over training is missing; read it from the training log"):
        check(change("CosFace", support=()))
    zero = TrainingCurve(seed=4, steps=np.array([1.0, 2.0]), values=np.array([1.0, 0.0]))
    with pytest.raises(
        ValueError, match="'CosFace', support over training, seed 4: sizes must be > 0 and steps must rise"
    ):
        check(change("CosFace", support=(zero,)))


def test_every_door_checks(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match="at least one system"):
        comparison_markdown(replace(comparison, systems=()))
