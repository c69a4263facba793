"""A number of a table: every digit of it, how it is shown, and what is known about it.

Marks: `*` the interval of the difference to the baseline excludes 0; `†` the figure rests on fewer than 30 false
accepts; `‡` a difference marked `*` is no larger than the spread over seeds of one of the two systems.
"""

from collections.abc import Callable
from dataclasses import dataclass

from qmargin.protocols.few import FEW_FALSE_ACCEPTS
from qmargin.report import _numbers as numbers

CLEAR, FEW, NOISE = "*", "†", "‡"
FEW_NOTE = f"{FEW} fewer than {FEW_FALSE_ACCEPTS} false accepts: that FAR is known to worse than about 30 % either way."


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A number, its spread, its interval and its marks; `value`, `interval` and `marks` are what a reader sees."""

    number: float
    write: Callable[[float], str]  # as it is shown
    spread: float | None = None  # standard deviation, over folds or seeds
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    false_accepts: float | None = None  # that the number rests on
    own_marks: str = ""  # beside that of few false accepts

    @property
    def value(self) -> str:
        """'97.31 ± 0.20'; without a spread the number alone."""
        spread = "" if self.spread is None else f" ± {self.write(self.spread)}"
        return self.write(self.number) + spread

    @property
    def interval(self) -> str:
        """'[96.80, 97.90]', or ''."""
        if self.low is None or self.high is None:
            return ""
        return numbers.interval(self.write(self.low), self.write(self.high))

    @property
    def marks(self) -> str:
        """All marks."""
        few = self.false_accepts is not None and self.false_accepts < FEW_FALSE_ACCEPTS
        return self.own_marks + (FEW if few and FEW not in self.own_marks else "")


def share(
    number: float,
    decimals: int = 2,
    *,
    spread: float | None = None,
    low: float | None = None,
    high: float | None = None,
    false_accepts: float | None = None,
    own_marks: str = "",
) -> Amount:
    """A share in [0, 1], shown in per cent.

    Example:
        >>> share(0.9731, low=0.968, high=0.979, false_accepts=12).value
        '97.31'
    """
    return Amount(
        number=number,
        write=lambda value: numbers.percent(value, decimals),
        spread=spread,
        low=low,
        high=high,
        false_accepts=false_accepts,
        own_marks=own_marks,
    )


def cost(
    number: float,
    *,
    low: float | None = None,
    high: float | None = None,
    false_accepts: float | None = None,
    own_marks: str = "",
) -> Amount:
    """A cost, a threshold or a number of bits, shown as it stands."""
    return Amount(
        number=number, write="{:.4f}".format, low=low, high=high, false_accepts=false_accepts, own_marks=own_marks
    )


def whole(number: float, *, false_accepts: float | None = None) -> Amount:
    """A count."""
    return Amount(number=number, write=numbers.count, false_accepts=false_accepts)
