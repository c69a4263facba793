"""RecordIO, the container of MXNet's `.rec` files: a byte string after the other, found by their offsets.

    record  = part [part ...]                       one part, unless the payload holds the magic word
    part    = magic (uint32), flag << 29 | length (uint32), `length` bytes, padding to a multiple of 4
    flag    = 0 whole record, 1 first part, 2 middle, 3 last; where parts meet, the magic word is put back

All numbers are little-endian. An `.idx` file beside it has a line `key<tab>offset` for each record. What the bytes of a
face set mean is the business of `qmargin.data.face_records`.

Reference: the format's definition, dmlc-core `include/dmlc/recordio.h`, and `python/mxnet/recordio.py` of Apache MXNet.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from qmargin._files import replacing

MAGIC = struct.pack("<I", 0xCED7230A)
LONGEST = (1 << 29) - 1  # bytes of a part
WHOLE, FIRST, MIDDLE, LAST = range(4)
LEAVE_OUT = "qmargin prepare faces --from rec --skip-bad leaves damaged records out"
SPOT_CHECKS = 1000  # records whose place is checked when an index is opened


class RecordError(ValueError):
    """A record that cannot be read: where it begins, and why."""

    def __init__(self, path: Path, offset: int, fault: str) -> None:
        super().__init__(f"the record at byte {offset:,} of {path} {fault}")
        self.offset = offset
        self.fault = fault


class RecordReader:
    """A `.rec` file, mapped into memory and read at any offset.

    It is mapped when it is first read, and pickled as its path and size: a few bytes for a process that decodes.

    Args:
        path: the `.rec` file.

    Raises:
        ValueError: no such file, or an empty one.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RecordWriter(Path(folder) / "x.rec") as writer:
        ...         writer.write(0, b"one"), writer.write(1, b"two")
        ...     keys, offsets = read_index(Path(folder) / "x.idx")
        ...     bytes(RecordReader(Path(folder) / "x.rec").read(offsets[1]))
        (0, 12)
        b'two'

    Sibling: `RecordWriter`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise ValueError(f"cannot read the record file {path}: {error.strerror}") from error
        self.path = path
        if not self.size:
            raise ValueError(f"{path} is empty: it holds no record; was it copied whole?")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "size": self.size}

    @cached_property
    def memory(self) -> memoryview:
        """The bytes of the file."""
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read the record file {self.path}: {error}") from error
        if len(mapped) != self.size:
            raise ValueError(
                f"{self.path} had {self.size:,} bytes when its index was read and has {len(mapped):,} now: it was "
                "changed meanwhile; start again"
            )
        return memoryview(mapped)

    def read(self, offset: int) -> memoryview | bytes:
        """The payload of the record that begins at `offset`; a view of the file where it is one part.

        Raises:
            RecordError: no record begins there, or it is damaged or cut off.
        """
        offset = int(offset)
        flag, start, stop = self._part(offset, offset)
        if flag == WHOLE:
            return self.memory[start:stop]
        if flag != FIRST:
            raise RecordError(self.path, offset, "is the continuation of another")
        parts = [bytes(self.memory[start:stop])]
        while flag != LAST:
            flag, start, stop = self._part(_padded(stop), offset)
            if flag not in (MIDDLE, LAST):
                raise RecordError(self.path, offset, f"is damaged: part {len(parts) + 1} begins another record")
            parts.append(bytes(self.memory[start:stop]))
        return MAGIC.join(parts)

    def end(self, offset: int) -> int:
        """Where the record that begins at `offset` ends, its padding included; errors are those of `read`."""
        begin = offset = int(offset)
        while True:
            flag, _, stop = self._part(offset, begin)
            offset = _padded(stop)
            if flag in (WHOLE, LAST):
                return offset

    def offsets(self) -> Iterator[int]:
        """Where each record begins, found from the first to the last, without an index.

        Raises:
            RecordError: a record is damaged or cut off: what comes after it cannot be found without an index.
        """
        offset = 0
        while offset < self.size:
            yield offset
            offset = self.end(offset)

    def _part(self, offset: int, record: int) -> tuple[int, int, int]:
        """Flag of the part at `offset`, and where its bytes start and stop; `record` is where its record begins."""
        if not 0 <= offset <= self.size - 8:
            raise RecordError(self.path, record, f"is cut off: the file ends at byte {self.size:,}")
        if self.memory[offset : offset + 4] != MAGIC:
            where = "has not the magic word at its start" if offset == record else "is damaged"
            raise RecordError(self.path, record, f"{where}: is the file, or its index, of another set?")
        (word,) = struct.unpack_from("<I", self.memory, offset + 4)
        flag, length = word >> 29, word & LONGEST
        stop = offset + 8 + length
        if flag > LAST:
            raise RecordError(self.path, record, f"is damaged: its flag is {flag}, not 0 to 3")
        if _padded(stop) > self.size:
            raise RecordError(
                self.path, record, f"is cut off: it needs {_padded(stop):,} bytes, the file has {self.size:,}"
            )
        return flag, offset + 8, stop


class RecordWriter:
    """Writes `.rec` and `.idx` together, whole or not at all: a context manager.

    Args:
        path: the `.rec` file; the index is beside it, with the ending `.idx`.

    Raises:
        ValueError: on leaving, as `qmargin._files.replacing`: the disk is full, the folder cannot be written.

    Sibling: `RecordReader`.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".rec":
            raise ValueError(f"a record file must end in .rec, got {path}: its index takes the same name with .idx")
        self.path = path
        self._stack = ExitStack()
        self._offset = 0
        self.count = 0
        """Records written."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            paths = [stack.enter_context(replacing(self.path.with_suffix(suffix))) for suffix in (".idx", ".rec")]
            self._index, self._records = (stack.enter_context(path.open("wb")) for path in paths)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, key: int, payload: bytes) -> int:
        """Append a record under a key; returns its offset.

        Raises:
            ValueError: a payload of 2^29 bytes or more.
            OSError: the disk is full; leaving the context then removes both files.
        """
        if len(payload) > LONGEST:
            raise ValueError(f"a record holds at most {LONGEST:,} bytes, record {key} has {len(payload):,}")
        parts = split_at_magic(payload)
        flags = [WHOLE] if len(parts) == 1 else [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
        offset = self._offset
        for flag, part in zip(flags, parts, strict=True):
            head = MAGIC + struct.pack("<I", flag << 29 | len(part))
            self._records.write(head + part + bytes(-len(part) % 4))
            self._offset += 8 + _padded(len(part))
        self._index.write(b"%d\t%d\n" % (key, offset))
        self.count += 1
        return offset

    def overwrite_first(self, payload: bytes) -> None:
        """Put another payload of the same length in the place of the first record's."""
        assert self.count, "there is a first record"
        assert split_at_magic(payload) == [payload], "it is one part"
        self._records.seek(8)
        self._records.write(payload)
        self._records.seek(self._offset)


def split_at_magic(payload: bytes) -> list[bytes]:
    """The payload without the magic words that begin at multiples of 4: what comes before, between and after them.

    Example:
        >>> split_at_magic(b"abcd" + MAGIC + b"e")
        [b'abcd', b'e']
    """
    parts, start, place = [], 0, payload.find(MAGIC)
    while place >= 0:
        if place % 4:
            place = payload.find(MAGIC, place + 1)
            continue
        parts.append(payload[start:place])
        start = place + 4
        place = payload.find(MAGIC, start)
    return [*parts, payload[start:]]


def read_index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets of an `.idx` file, in the order of the keys; (records,) each.

    Raises:
        ValueError: no such file, an empty one, lines that are not `key<tab>offset`, a key or an offset listed twice.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the index {path}: {error.strerror}; a .rec file needs its .idx") from error
    if not text:
        raise ValueError(f"the index {path} is empty: was it copied whole?")
    table = _numbers(text)
    if table is None:
        raise ValueError(f"{path} is not an index of records: every line must be key<tab>offset, two numbers")
    keys, offsets = table[np.argsort(table[:, 0], kind="stable")].T
    for what, column in (("key", keys), ("offset", np.sort(offsets))):
        (twice,) = np.nonzero(np.diff(column) == 0)
        if len(twice):
            raise ValueError(f"{path} lists the {what} {column[twice[0]]} twice: it is damaged")
    return keys, offsets


def check_index(
    records: RecordReader, index: Path, offsets: NDArray[np.int64], *, damaged_allowed: bool = False
) -> None:
    """Refuse an index that is not of this file, and a file that is cut off.

    The last record must end where the file does; up to a thousand others, spread over the file, must end where the next
    one begins. The rest is checked when it is read.

    Args:
        records: the file.
        index: the `.idx` file, for the message.
        offsets: what it lists (records,).
        damaged_allowed: let up to half of those that are looked at be damaged.

    Raises:
        ValueError: as said, with the record that does not fit.
    """
    ordered = np.sort(offsets)
    ends = np.append(ordered[1:], records.size)
    if ordered[0] != 0 or ordered[-1] > records.size - 8:
        raise ValueError(
            f"{index} has records from byte {ordered[0]:,} to {ordered[-1]:,}, {records.path} has {records.size:,} "
            "bytes: the index is of another file, or the .rec file is cut off; copy both again"
        )
    places = np.unique(np.linspace(0, len(ordered) - 1, SPOT_CHECKS).astype(np.int64))
    faults = [fault for place in places if (fault := _misfit(records, int(ordered[place]), int(ends[place])))]
    few = 2 * len(faults) <= len(places) and _ends_at(records, int(ordered[-1])) in (None, records.size)
    if faults and not (damaged_allowed and few):
        raise ValueError(
            f"{index} is not the index of {records.path}, or the file is cut off or damaged: {faults[0]} "
            f"({len(faults):,} of the {len(places):,} records that were looked at do not fit); copy both again"
            f"{', or have the rest: ' + LEAVE_OUT if few else ''}"
        )


def _ends_at(records: RecordReader, begin: int) -> int | None:
    """Where the record at `begin` ends; None where it is damaged."""
    try:
        return records.end(begin)
    except RecordError:
        return None


def _misfit(records: RecordReader, begin: int, expected: int) -> str | None:
    """Why the record at `begin` does not end where it must."""
    try:
        end = records.end(begin)
    except RecordError as error:
        return str(error)
    there = "the file ends" if expected == records.size else "the next one begins"
    return None if end == expected else f"the record at byte {begin:,} ends at {end:,}, {there} at {expected:,}"


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _numbers(text: bytes) -> NDArray[np.int64] | None:
    """The lines of an index, (records, 2); None where one is not two numbers."""
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if text.translate(None, b"0123456789\t\r\n") or text.count(b"\t") != lines:
        return None
    numbers = np.fromstring(text.decode("ascii"), dtype=np.int64, sep="\t")
    return numbers.reshape(-1, 2) if len(numbers) == 2 * lines else None
