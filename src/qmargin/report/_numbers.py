"""The one place where a number or a name becomes text: the terminal, Markdown, the page and the plots all ask here.

Shares in [0, 1] are written in percent, differences of shares with their sign in percentage points.
"""

import math
from collections.abc import Iterable

from qmargin.protocols.comparison import Comparison, Figure

MINUS = "\N{MINUS SIGN}"


def plain(text: str) -> str:
    """`text` on one line, without control characters: what a terminal, a table cell and an HTML parser all survive."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """`text` with a space for every control, format and line-end character."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str, width: int) -> str:
    """`plain(text)` in at most `width` characters; a longer one loses its middle, because names differ at the ends."""
    line = plain(text)
    if len(line) <= width:
        return line
    head = (width - 1) // 2
    return f"{line[:head]}…{line[head + 1 - width :]}"


def digits(comparison: Comparison, figure: Figure) -> int:
    """Decimals of a figure in percent: two significant ones of its narrowest interval, from 1 to 3."""
    intervals = [
        interval
        for system in comparison.systems
        for interval in (system.estimates[figure.name], system.differences.get(figure.name))
        if interval is not None
    ]
    return _decimals(100.0 * (interval.high - interval.low) / 2.0 for interval in intervals)


def _decimals(half_widths: Iterable[float]) -> int:
    seen = [width for width in half_widths if width > 0.0]
    return min(3, max(1, 1 - math.floor(math.log10(min(seen))))) if seen else 2


def percent(share: float, decimals: int) -> str:
    """0.97312 with 2 decimals -> '97.31'."""
    return f"{100.0 * share:.{decimals}f}".replace("-", MINUS)


def signed(share: float, decimals: int) -> str:
    """A difference with its sign, which also stays on what is rounded to 0: 0.0042 -> '+0.42', 0 -> '0.00'."""
    text = f"{100.0 * share:+.{decimals}f}".replace("-", MINUS)
    return text if share != 0.0 else text[1:]


def class_decimals(mean: float) -> int:
    """Decimals of a support size and of its spread and range: three digits, and no more than two decimals."""
    return 0 if mean >= 100.0 else 1 if mean >= 10.0 else 2


def interval(low: str, high: str) -> str:
    """Two formatted ends: '[96.50, 98.02]'."""
    return f"[{low}, {high}]"


def count(number: float) -> str:
    """70200 -> '70,200'; a mean of counts keeps one decimal where it has one."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def counted(number: int, singular: str) -> str:
    """'1 system', '3 systems'."""
    return f"{count(number)} {singular}{'' if number == 1 else 's'}"


def listed(items: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last
