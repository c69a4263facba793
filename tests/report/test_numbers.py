from collections.abc import Callable
from dataclasses import replace

import pytest

from qmargin.protocols.comparison import Comparison, Estimate, Figure
from qmargin.report import _numbers as numbers


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.percent(0.97316, 2), "97.32"),
        (numbers.percent(1.0, 1), "100.0"),
        (numbers.signed(0.00418, 2), "+0.42"),
        (numbers.signed(-0.0042, 2), "\N{MINUS SIGN}0.42"),
        (numbers.signed(1e-6, 2), "+0.00"),
        (numbers.signed(-1e-6, 2), "\N{MINUS SIGN}0.00"),
        (numbers.signed(0.0, 2), "0.00"),
        (numbers.count(70_200), "70,200"),
        (numbers.count(4.75), "4.8"),
        (numbers.counted(1, "run"), "1 run"),
        (numbers.counted(2, "run"), "2 runs"),
        (numbers.listed(["a"]), "a"),
        (numbers.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_writes_as_in_the_table(written: str, expected: str) -> None:
    assert written == expected


def test_plain_leaves_one_printable_line() -> None:
    assert numbers.plain("a\n b\x00\x1b[31m\u202ec\td ") == "a b [31m c d"


def test_short_keeps_both_ends() -> None:
    assert numbers.short("abcdefghij", 7) == "abc…hij"
    assert numbers.short("abcdefghij", 10) == "abcdefghij"
    assert len(numbers.short("x" * 99, 26)) == 26


@pytest.mark.parametrize(("half_width", "decimals"), [(0.03, 1), (0.0075, 2), (0.0003, 3), (0.0000003, 3), (0.0, 2)])
def test_digits_follow_the_narrowest_interval(
    comparison: Comparison, change: Callable[..., Comparison], half_width: float, decimals: int
) -> None:
    figure = Figure(name="EER", higher_is_better=False)
    estimate = Estimate(mean=0.5, spread=None, low=0.5 - half_width, high=0.5 + half_width)
    base = change("ArcFace", estimates={"EER": estimate})
    alone = replace(comparison, systems=base.systems[:1])
    assert numbers.digits(alone, figure) == decimals
