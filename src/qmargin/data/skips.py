"""What a preparation leaves out, in words."""

import re
from collections.abc import Sequence

from qmargin.data._checks import first_few

MOST_REASONS = 3  # that are named where no image is good

Skip = tuple[str, str]  # what was left out, and why


def describe_skips(skipped: Sequence[Skip]) -> str:
    """Number and first few of what was left out."""
    return f"{len(skipped):,} left out: {first_few([path for path, _ in skipped])}"


def describe_reasons(skipped: Sequence[Skip]) -> str:
    """The most frequent reasons, each with its number and in the words of its first image.

    Example:
        >>> describe_reasons([("a/x.jpg", "a/x.jpg is empty"), ("b", "b is cut off"), ("a/y.jpg", "a/y.jpg is empty")])
        '2 as in: a/x.jpg is empty | 1 as in: b is cut off'
    """
    alike: dict[str, list[str]] = {}
    for path, reason in skipped:
        alike.setdefault(re.sub(r"\d[\d,]*", "", reason.replace(path, "")), []).append(reason)
    frequent = sorted(alike.values(), key=len, reverse=True)
    shown = [f"{len(found):,} as in: {found[0]}" for found in frequent[:MOST_REASONS]]
    others = len(frequent) - len(shown)
    return " | ".join([*shown, *([f"{others} other reasons"] if others else [])])
