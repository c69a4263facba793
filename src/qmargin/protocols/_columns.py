"""Text files of whitespace-separated columns as arrays: no Python object a row, and every refusal names file and line.

Conventions:
    Columns are separated by spaces or tabs, lines end with LF or CRLF, the text is UTF-8; a byte order mark before it,
    as editors on Windows write, is no part of it. Every line has the same number of columns; only the end of the file
    may be blank. A field longer than `LONGEST_FIELD` bytes is no id.
"""

from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LONGEST_FIELD = 1024  # bytes
Fields = NDArray[np.bytes_]


@dataclass(frozen=True, eq=False)
class Columns:
    """A table of bytes, `columns` of (rows,) each; row k stands on line k + 1 of the file."""

    path: Path
    columns: tuple[Fields, ...]

    @property
    def rows(self) -> int:
        """Number of lines."""
        return len(self.columns[0])

    def numbers(self, column: int, what: str) -> NDArray[np.float64]:
        """A column as finite float64 (rows,), or a ValueError that names the first line that is no number."""
        fields = self.columns[column]
        try:
            values = fields.astype(np.float64)
        except ValueError:
            values = np.array([_number(field) for field in fields])
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise self.refusal(row, f"{what} must be a finite number, got {text(fields[row])!r}")
        return values

    def labels(self, column: int, words: tuple[bytes, bytes]) -> NDArray[np.bool_]:
        """A column as a mask of genuine trials, from the words for genuine and impostor; a ValueError on any other."""
        genuine = self.columns[column] == words[0]
        known = genuine | (self.columns[column] == words[1])
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            raise self.refusal(
                row, f"the label must be {text(words[0])} or {text(words[1])}, got {text(self.columns[column][row])!r}"
            )
        return np.asarray(genuine)

    def refusal(self, row: int, reason: str) -> ValueError:
        """The error for a row, with file and line."""
        return ValueError(f"{self.path}, line {row + 1}: {reason}")


def text(field: bytes) -> str:
    """A field as it is shown to a reader."""
    return field.decode("utf-8", errors="backslashreplace")


def read_columns(path: Path, counts: tuple[int, ...], layout: str) -> Columns:
    """Read a file whose lines all have the same number of columns, one of `counts`.

    Args:
        path: of the file.
        counts: allowed numbers of columns.
        layout: what a line looks like, for the error, e.g. `label path path`.

    Returns:
        The columns, as bytes.

    Raises:
        ValueError: the file is missing, empty or binary, or a line has another number of columns (the first is named).
    """
    data = _read(path)
    blank = (data == 32) | (data == 9) | (data == 13)
    ends_line = data == 10
    filled = ~(blank | ends_line)
    edges = np.flatnonzero(np.diff(filled.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]  # (fields,) of each field
    if not starts.size:
        raise ValueError(f"{path} is empty: expected lines of `{layout}`")
    lines = np.cumsum(ends_line)[starts]  # (fields,) line of each field, from 0
    per_line = np.bincount(lines)
    first = int(per_line[0])
    count = first if first in counts else counts[0]
    if (wrong := per_line != count).any():
        row = int(wrong.argmax())
        raise ValueError(f"{path}, line {row + 1}: expected {count} columns (`{layout}`), got {per_line[row]}")
    if (widest := int((ends - starts).max())) > LONGEST_FIELD:
        row = int((ends - starts).argmax()) // count
        raise ValueError(f"{path}, line {row + 1}: a field of {widest} bytes, the longest may be {LONGEST_FIELD}")
    starts, ends = starts.reshape(-1, count), ends.reshape(-1, count)  # (rows, columns)
    return Columns(path, tuple(_gather(data, starts[:, k], ends[:, k]) for k in range(count)))


def _read(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    data = np.fromfile(path, dtype=np.uint8)
    if data[: len(BOM_UTF8)].tobytes() == BOM_UTF8:
        data = data[len(BOM_UTF8) :]
    if (data == 0).any():
        line = 1 + int(np.count_nonzero(data[: int((data == 0).argmax())] == 10))
        raise ValueError(f"{path}, line {line}: a zero byte; this is not a text file")
    return data


def _gather(data: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Fields:
    """Bytes between starts and ends as fixed-width strings (rows,)."""
    lengths = ends - starts
    width = int(lengths.max())
    padded = np.concatenate([data, np.zeros(width, dtype=np.uint8)])
    characters = np.lib.stride_tricks.sliding_window_view(padded, width)[starts]  # (rows, width)
    characters[np.arange(width) >= lengths[:, None]] = 0
    return characters.view(f"S{width}").ravel()


def _number(field: bytes) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


def index_ids(*columns: Fields) -> tuple[Fields, list[NDArray[np.int32]]]:
    """Distinct ids of several columns, sorted, and each column as indices (rows,) into them.

    Ids are told apart by a 64-bit hash, whose collisions are looked for: ten times faster than sorting strings.
    """
    width = -(-max(column.dtype.itemsize for column in columns) // 8) * 8
    ids = np.concatenate([column.astype(f"S{width}") for column in columns])
    words = ids.view(np.uint64).reshape(len(ids), -1)
    codes = np.zeros(len(ids), dtype=np.uint64)
    for word in words.T:
        codes = (codes ^ word) * np.uint64(0x9E3779B97F4A7C15)
        codes ^= codes >> np.uint64(29)
    _, where, which = np.unique(codes, return_index=True, return_inverse=True)
    distinct = ids[where]
    if not np.array_equal(distinct[which], ids):  # two ids share a hash
        distinct, which = np.unique(ids, return_inverse=True)
    order = np.argsort(distinct)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return distinct[order], np.split(rank[which], np.cumsum([len(column) for column in columns])[:-1])
