"""The rows of a manifest as columns, block by block. Laws are checked on whole blocks; a doubt is left to who reads
row by row and can name the line."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from qmargin.data.columns import BLOCK, Indices, TextColumn
from qmargin.data.identities import SPLITS, Identities

# A path with an empty part, '.' or '..', or with what cannot be written; an identity that cannot be written.
_BAD_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\0\r\ud800-\udfff]", re.MULTILINE)
_BAD_NAME = re.compile(r"^$|[\0\r\n\ud800-\udfff]")


@dataclass(frozen=True)
class Layout:
    """Where the three columns stand in a row; `split` is None where all samples are in `default_split`."""

    width: int
    path: int
    identity: int
    split: int | None
    default_split: str | None

    @classmethod
    def of(cls, header: Sequence[str], path: str, identity: str, default_split: str | None) -> "Layout":
        """The layout of a header that has the columns."""
        split = header.index("split") if "split" in header else None
        return cls(len(header), header.index(path), header.index(identity), split, default_split)


@dataclass
class _Columns:
    parts: list[TextColumn] = field(default_factory=list)  # paths
    hashes: list[Indices] = field(default_factory=list)  # of paths
    codes: list[Indices] = field(default_factory=list)  # number of each row's identity
    numbers: dict[str, int] = field(default_factory=dict)  # of each identity, by first appearance
    homes: dict[str, str] = field(default_factory=dict)  # split of each identity

    def add(self, paths: list[str], identities: list[str], split: list[str]) -> bool:
        """Add a block of rows; False where one may break a law."""
        joined = "\n".join(paths)
        if joined.count("\n") != len(paths) - 1 or _BAD_PATH.search(joined):
            return False
        for name, part in set(zip(identities, split, strict=True)):
            if self.homes.setdefault(name, part) != part or part not in SPLITS or _BAD_NAME.search(name):
                return False
        self.parts.append(TextColumn.of(paths))
        self.hashes.append(np.fromiter(map(hash, paths), np.int64, len(paths)))
        numbers = self.numbers
        self.codes.append(
            np.fromiter((numbers.setdefault(name, len(numbers)) for name in identities), np.int64, len(identities))
        )
        return True

    def alike(self) -> bool:
        """Whether two paths may be the same."""
        hashes = np.sort(np.concatenate(self.hashes))
        self.hashes.clear()
        return bool(np.any(hashes[1:] == hashes[:-1]))

    def people(self) -> Identities:
        """The identities of the rows."""
        codes = np.concatenate(self.codes).astype(np.int32)
        return Identities.sorted(tuple(self.numbers), codes, [SPLITS.index(self.homes[name]) for name in self.numbers])


def read_columns(rows: Iterable[list[str]], layout: Layout) -> tuple[TextColumn, Identities] | None:
    """Paths and identities of the rows of a CSV file; None where there is no row, or one may break a law."""
    columns = _Columns()
    for block in _blocks(rows):
        if any(len(row) != layout.width for row in block):
            return None
        default = [layout.default_split or ""] * len(block)
        split = default if layout.split is None else [row[layout.split] for row in block]
        if not columns.add([row[layout.path] for row in block], [row[layout.identity] for row in block], split):
            return None
    if not columns.parts or columns.alike():
        return None
    return TextColumn.joined(columns.parts), columns.people()


def _blocks(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    lines = iter(rows)
    while block := list(islice(lines, BLOCK)):
        filled = [row for row in block if row]  # empty lines are none
        if filled:
            yield filled
