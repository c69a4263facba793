"""Large tables of integers, parsed by whole-array operations; every fault is named by file and line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 22  # bytes parsed at a time
MAX_DIGITS = 9  # so that a value fits int32
_SPACE, _TAB, _RETURN, _NEWLINE, _ZERO = b" \t\r\n0"

Bytes = NDArray[np.uint8]


def read_integer_table(path: Path, columns: int) -> NDArray[np.int32]:
    """Read lines of `columns` integers >= 0, separated by spaces or tabs.

    Args:
        path: the file; empty lines at its end are ignored.
        columns: integers of a line.

    Returns:
        (lines, columns).

    Raises:
        ValueError: no such file, no line, or a line with something else (its number and text are in the message).
    """
    try:
        with path.open("rb") as file:
            parts, line = [], 1
            for piece in _whole_lines(iter(lambda: file.read(PIECE), b"")):
                part = _parse(piece, columns, path, line)
                parts.append(part)
                line += len(part)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not sum(map(len, parts)):
        raise ValueError(f"{path} is empty: it must have lines of {columns} integers")
    return np.concatenate(parts)


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Cut before the last line that is not blank, so that blank lines are dropped at the end of the file only."""
    rest = b""
    for piece in pieces:
        text = rest + piece
        end = text.rfind(b"\n", 0, len(text.rstrip())) + 1
        rest = text[end:]
        if end:
            yield text[:end]
    if rest.strip():
        yield rest.rstrip() + b"\n"


def _parse(text: bytes, columns: int, path: Path, line: int) -> NDArray[np.int32]:
    letters = np.frombuffer(text, np.uint8)
    digit = (letters - _ZERO) < 10  # wraps around below zero
    blank = (letters == _SPACE) | (letters == _TAB) | (letters == _RETURN) | (letters == _NEWLINE)
    starts = np.flatnonzero(digit & ~np.concatenate([[False], digit[:-1]]))
    ends = np.flatnonzero(digit & ~np.concatenate([digit[1:], [False]])) + 1
    breaks = np.flatnonzero(letters == _NEWLINE)
    counts = np.diff(np.searchsorted(starts, breaks), prepend=0)  # numbers of each line
    lengths = ends - starts
    if not (digit | blank).all() or (counts != columns).any() or lengths.max(initial=0) > MAX_DIGITS:
        raise _fault(text, columns, path, line)
    values = np.zeros(len(starts), np.int32)
    for place in range(int(lengths.max())):
        longer = lengths > place
        values[longer] = values[longer] * 10 + (letters[starts[longer] + place] - _ZERO)
    return values.reshape(-1, columns)


def _fault(text: bytes, columns: int, path: Path, line: int) -> ValueError:
    """The first line that is wrong, found the slow way."""
    for number, row in enumerate(text.split(b"\n"), line):
        words = row.split()
        if len(words) != columns or not all(word.isdigit() and len(word) <= MAX_DIGITS for word in words):
            shown = row[:60].decode("utf-8", "backslashreplace")
            return ValueError(
                f"{path}, line {number}: {columns} integers of up to {MAX_DIGITS} digits must stand here, got {shown!r}"
            )
    raise AssertionError("the whole-array parser refused lines in which nothing is wrong")
