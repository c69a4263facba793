"""The rows of a manifest as columns, block by block.

Laws are checked on whole blocks; a doubt is left to who reads row by row and can name the line.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from qmargin.data.columns import BLOCK, TextColumn
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.manifest import check_samples

_FAULTS = ("//", "/./", "/../", "\0", "\r")  # of a path between two slashes
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
class Columns:
    """Rows of a manifest, collected block by block."""

    content: bytearray = field(default_factory=bytearray)  # of all paths
    lengths: "array[int]" = field(default_factory=lambda: array("i"))  # of each, in bytes
    hashes: "array[int]" = field(default_factory=lambda: array("q"))  # of each
    codes: "array[int]" = field(default_factory=lambda: array("i"))  # number of each row's identity
    numbers: dict[str, int] = field(default_factory=dict)  # of each identity, by first appearance
    homes: dict[str, str] = field(default_factory=dict)  # split of each identity

    def add(self, paths: Sequence[str], identities: Sequence[str], split: Sequence[str]) -> bool:
        """Add a block of rows; False where one may break a law."""
        joined = "\n".join(paths)
        framed = f"/{joined}/".replace("\n", "/")
        if joined.count("\n") != len(paths) - 1 or any(fault in framed for fault in _FAULTS):
            return False
        for name, part in dict.fromkeys(zip(identities, split, strict=True)):
            if self.homes.setdefault(name, part) != part or part not in SPLITS or _BAD_NAME.search(name):
                return False
            self.numbers.setdefault(name, len(self.numbers))
        text = "".join(paths)
        self.content += text.encode()
        self.lengths.extend(map(len, paths if text.isascii() else [path.encode() for path in paths]))
        self.hashes.extend(map(hash, paths))
        self.codes.extend(map(self.numbers.__getitem__, identities))
        return True

    def add_lawful(self, paths: Sequence[str], identities: Sequence[str], split: Sequence[str]) -> None:
        """Add a block that shares no path or identity with another; a `SampleError` where a row breaks a law."""
        try:
            lawful = self.add(paths, identities, split)
        except UnicodeEncodeError:
            lawful = False
        if not lawful:
            check_samples(paths, identities, split)
            raise AssertionError("a law is broken that only two blocks break together")

    def alike(self) -> bool:
        """Whether two paths may be the same."""
        hashes = np.sort(np.frombuffer(self.hashes, np.int64))
        return bool(np.any(hashes[1:] == hashes[:-1]))

    def paths(self) -> TextColumn:
        """The paths of the rows."""
        bounds = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(np.frombuffer(self.lengths, np.int32), out=bounds[1:])
        return TextColumn(np.frombuffer(self.content, np.uint8), bounds)

    def people(self) -> Identities:
        """The identities of the rows."""
        codes = np.frombuffer(self.codes, np.int32)
        return Identities.sorted(tuple(self.numbers), codes, [SPLITS.index(self.homes[name]) for name in self.numbers])


def read_columns(rows: Iterable[list[str]], layout: Layout) -> tuple[TextColumn, Identities] | None:
    """Paths and identities of the rows of a CSV file; None where there is no row, or one may break a law."""
    columns = Columns()
    for block in _blocks(rows):
        if set(map(len, block)) != {layout.width}:
            return None
        fields = list(zip(*block, strict=True))
        split = [layout.default_split or ""] * len(block) if layout.split is None else fields[layout.split]
        if not columns.add(fields[layout.path], fields[layout.identity], split):
            return None
    if not columns.codes or columns.alike():
        return None
    return columns.paths(), columns.people()


def _blocks(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    lines = iter(rows)
    while block := list(islice(lines, BLOCK)):
        filled = [row for row in block if row]  # empty lines are none
        if filled:
            yield filled
