"""GitHub Markdown from text: escaped on its way in, tables aligned in the source too."""

import re
from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len

from qmargin.report._numbers import plain


def markdown_text(text: str) -> str:
    """Plain text that GitHub shows as it is: no emphasis, links, tags, mathematics or cell ends."""
    return re.sub(r"([\\`*_<>&|~$#]|\](?=[(\[:]))", r"\\\1", plain(text))


def grid(header: Sequence[str], body: Sequence[Sequence[str]], left: Sequence[bool]) -> str:
    """A table of escaped cells; columns are aligned to the left where `left` says so, else to the right."""
    widths = [max(3, *map(cell_len, column)) for column in zip_longest(header, *body, fillvalue="")]
    rules = ["-" * width if kept else "-" * (width - 1) + ":" for width, kept in zip(widths, left, strict=True)]
    lines = []
    for row in (header, rules, *body):
        padding = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        cells = [text + pad if kept else pad + text for text, pad, kept in zip(row, padding, left, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
