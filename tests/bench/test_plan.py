"""Formulas by hand, their limits and their refusals; tests/bench/test_memory.py compares them with measured peaks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qmargin.bench.plan import Cost, Problem, dense, dense_autocast, largest_classes, partial_fc, product, streaming

MILLION = Problem(classes=1_000_000, dim=512, batch=128)
HEADS = [dense, dense_autocast, partial_fc, streaming, product]
W = 4 * 512 * 1_000_000


def test_dense_by_hand() -> None:
    cost = dense(MILLION)
    assert cost.memory["prototypes"] == cost.memory["momentum"] == W
    assert cost.beyond == 5 * W + 4e6  # 5 C D > C D + 10 B C
    wide = dense(replace(MILLION, batch=1024))
    assert wide.beyond == W + 10 * 4 * 1024 * 1e6 + 4e6
    assert cost.flops == pytest.approx(6 * 128 * 512e6, rel=0.1)


def test_partial_fc_by_hand() -> None:
    tenth = partial_fc(MILLION)
    assert tenth.beyond == pytest.approx((2 + 5) * W / 10, rel=0.01)
    assert partial_fc(replace(MILLION, rate=1.0)).beyond == pytest.approx(7 * W, rel=0.01)
    assert partial_fc(replace(MILLION, classes=50, rate=0.1, batch=64)).beyond > 0  # more labels than a tenth


def test_streaming_by_hand() -> None:
    cost = streaming(replace(MILLION, support=100.0))
    touched = 1e6 * (1 - (1 - 1e-4) ** 128)
    assert cost.memory["bfloat16 directions"] == W / 2
    assert cost.memory["gradient"] == pytest.approx(9 / 8 * touched * 512 * 4)
    assert cost.beyond < 0.55 * W
    assert streaming(replace(MILLION, alpha=1.0)).beyond == pytest.approx(W, rel=0.02)


def test_touched_classes_are_at_most_all_and_at_most_every_pair() -> None:
    assert MILLION.touched <= 128 * 100
    assert replace(MILLION, support=1.0).touched == pytest.approx(128, rel=1e-3)
    assert replace(MILLION, classes=50, support=80.0).touched == 50


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["classes", "dim", "batch"])
def test_every_cost_grows_with_every_size(head: Callable[[Problem], Cost], name: str) -> None:
    small, large = head(MILLION), head(replace(MILLION, **{name: 2 * getattr(MILLION, name)}))
    assert small.flops < large.flops
    assert small.traffic < large.traffic
    assert small.total <= large.total


@pytest.mark.parametrize("head", HEADS)
def test_no_momentum_no_memory_for_it(head: Callable[[Problem], Cost]) -> None:
    assert head(replace(MILLION, momentum=False)).memory["momentum"] == 0
    assert "momentum" not in head(replace(MILLION, momentum=False)).arithmetic()


def test_a_lazy_update_moves_less() -> None:
    assert streaming(replace(MILLION, update="lazy")).traffic < 0.3 * streaming(MILLION).traffic


@pytest.mark.parametrize("head", HEADS)
def test_the_most_classes_that_fit_do_and_one_more_does_not(head: Callable[[Problem], Cost]) -> None:
    most = largest_classes(head, MILLION, 24e9)
    assert head(replace(MILLION, classes=most)).total <= 24e9 < head(replace(MILLION, classes=most + 1)).total


def test_nothing_fits_into_nothing() -> None:
    assert largest_classes(dense, MILLION, 10.0) == 0


def test_the_arithmetic_adds_up() -> None:
    assert streaming(replace(MILLION, alpha=1.0)).arithmetic() == (
        "prototypes 2.05 GB + momentum 2.05 GB + gradient 2.05 GB + norms 8 MB + chunk 16.8 MB = 6.17 GB"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 0}, "classes must be an integer >= 1, got 0"),
        ({"batch": 1.5}, "batch must be an integer >= 1, got 1.5"),
        ({"alpha": 3.0}, "alpha must be a number in"),
        ({"support": 0.5}, "support must be a number of classes >= 1"),
        ({"rate": 0.0}, r"rate must be a share of the classes in \(0, 1\], got 0.0"),
        ({"update": "eager"}, "update must be 'dense' or 'lazy', got 'eager'"),
    ],
)
def test_what_is_no_problem_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MILLION, **change)
