"""Columns of a table of millions of rows: text and categories in a few arrays, with no Python object for each row."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

BLOCK = 1 << 13  # rows that are Python objects at a time


class Column(Sequence[str]):
    """What columns share: a text for each row, equal to any sequence of the same texts."""

    __hash__ = None  # type: ignore[assignment] # as a list: equal to what is not hashed alike

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __repr__(self) -> str:
        shown = ", ".join(repr(self.text(row)) for row in range(min(3, len(self))))
        return f"<{len(self):,} rows: {shown}{', ...' if len(self) > 3 else ''}>"

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        if isinstance(row, slice):
            return self.take(np.arange(*row.indices(len(self)), dtype=np.int64))
        return self.text(range(len(self))[row])

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.texts(start) for start in range(0, len(self), BLOCK))

    def text(self, row: int) -> str:
        """The text of one row >= 0."""
        raise NotImplementedError

    def texts(self, start: int) -> list[str]:
        """The texts of up to `BLOCK` rows from `start` on."""
        raise NotImplementedError

    def take(self, rows: Indices) -> "Column":
        """The texts of some rows, in their order."""
        raise NotImplementedError


class TextColumn(Column):
    """A text for each row: the UTF-8 bytes of all, one after the other, and where each ends.

    Args:
        content: the bytes (characters,) uint8.
        bounds: start of each text and the end of the last, (rows + 1,) int64.

    Example:
        >>> column = TextColumn.of(["al/1.png", "bo/1.png"])
        >>> column, column[1], column == ("al/1.png", "bo/1.png")
        (<2 rows: 'al/1.png', 'bo/1.png'>, 'bo/1.png', True)

    Sibling: `CategoryColumn`, for few different texts.
    """

    def __init__(self, content: NDArray[np.uint8], bounds: Indices) -> None:
        self.content = content
        self.bounds = bounds

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TextColumn":
        """The column of some texts; UnicodeEncodeError where one has no UTF-8."""
        if isinstance(texts, TextColumn):
            return texts
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.concatenate([[0], np.cumsum(lengths)]))

    @classmethod
    def joined(cls, parts: Sequence["TextColumn"]) -> "TextColumn":
        """The rows of all parts, one after the other."""
        starts = np.cumsum([0, *(len(part.content) for part in parts)])
        bounds = [part.bounds[:-1] - part.bounds[0] + start for part, start in zip(parts, starts, strict=False)]
        content = np.concatenate([part.content for part in parts])
        return cls(content, np.concatenate([*bounds, starts[-1:]]))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def text(self, row: int) -> str:
        """The text of one row >= 0."""
        return self.content[self.bounds[row] : self.bounds[row + 1]].tobytes().decode()

    def texts(self, start: int) -> list[str]:
        """The texts of up to `BLOCK` rows from `start` on."""
        bounds = self.bounds[start : start + BLOCK + 1]
        content = self.content[bounds[0] : bounds[-1]].tobytes()
        places = (bounds - bounds[0]).tolist()
        return [content[low:high].decode() for low, high in pairwise(places)]

    def take(self, rows: Indices) -> "TextColumn":
        """The texts of some rows, in their order."""
        parts = [self._gather(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        return TextColumn.joined(parts) if parts else TextColumn.of([])

    def _gather(self, rows: Indices) -> "TextColumn":
        starts, lengths = self.bounds[rows], self.bounds[rows + 1] - self.bounds[rows]
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        source = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)
        return TextColumn(self.content[source], bounds)


class CategoryColumn(Column):
    """One of few texts for each row.

    Args:
        names: the different texts.
        codes: place of each row's text in `names`, (rows,) integers.

    Example:
        >>> CategoryColumn(("train", "test"), np.array([0, 0, 1]))
        <3 rows: 'train', 'train', 'test'>

    Sibling: `TextColumn`.
    """

    def __init__(self, names: tuple[str, ...], codes: NDArray[np.integer]) -> None:
        self.names = names
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def text(self, row: int) -> str:
        """The text of one row >= 0."""
        return self.names[int(self.codes[row])]

    def texts(self, start: int) -> list[str]:
        """The texts of up to `BLOCK` rows from `start` on."""
        return [self.names[code] for code in self.codes[start : start + BLOCK].tolist()]

    def take(self, rows: Indices) -> "CategoryColumn":
        """The texts of some rows, in their order."""
        return CategoryColumn(self.names, self.codes[rows])
