"""What stands in the records of a face set: header, labels, image; read one by one, or the heads of millions together.

flag (uint32), label (float32), id (uint64), id2 (uint64), `flag` labels (float32) that stand for `label`, content
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.decode import EncodedImage
from qmargin.data.recordio import LEAVE_OUT, LONGEST, MAGIC, RecordError, RecordReader

Floats = NDArray[np.float32]

HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
EXACT = 1 << 24  # integers up to here are float32 numbers
CHUNK = 1 << 18  # records whose heads are gathered at a time
LABEL_LAW = "a label must be a whole number in [0, 16777216)"
_HEAD = np.dtype(
    [("magic", "<u4"), ("word", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2), ("labels", "<f4", 2)]
)


def pack_face(content: bytes, labels: Sequence[float], key: int) -> bytes:
    """The payload of a record: one label stands in the header, several after it.

    Example:
        >>> labels, key, content = unpack_face(pack_face(b"image", [7], key=1))
        >>> labels.tolist(), key, bytes(content)
        ([7.0], 1, b'image')
    """
    if len(labels) == 1:
        return HEADER.pack(0, labels[0], key, 0) + content
    return HEADER.pack(len(labels), 0.0, key, 0) + np.asarray(labels, "<f4").tobytes() + content


def unpack_face(payload: bytes | memoryview) -> tuple[Floats, int, memoryview]:
    """Labels, id and content of a payload.

    Raises:
        ValueError: it is too short for its header.
    """
    view = memoryview(payload)
    flag, label, key, _ = HEADER.unpack_from(view) if len(view) >= HEADER.size else (0, 0.0, 0, 0)
    body = HEADER.size + 4 * flag
    if len(view) < body:
        raise ValueError(f"has {len(view)} bytes, too few for its header of {body}")
    labels = np.frombuffer(view[HEADER.size : body], "<f4") if flag else np.array([label], np.float32)
    return labels, key, view[body:]


@dataclass(frozen=True)
class RecordImages:
    """The images of a `.rec` file; a place is the offset of a record."""

    records: RecordReader

    @property
    def fingerprint(self) -> str:
        """The file's size."""
        return f"rec {self.records.size}"

    def path(self, place: Indices) -> str:
        """`train.rec@offset`."""
        return f"{self.records.path.name}@{place[0]}"

    def encoded(self, place: Indices, identity: str) -> EncodedImage:
        """The bytes of an image; a ValueError where its record is damaged, or has the label of another identity."""
        labels, content = self.face(int(place[0]))
        if labels[0] != int(identity):
            raise RecordError(
                self.records.path,
                int(place[0]),
                f"has label {labels[0]:g}, its identity record says {int(identity)}: the set is damaged; {LEAVE_OUT}",
            )
        return EncodedImage(content, f"{self.records.path}, record at byte {place[0]:,}")

    def face(self, offset: int) -> tuple[Floats, memoryview]:
        """Labels and content of the record at an offset."""
        try:
            labels, _, content = unpack_face(self.records.read(offset))
        except RecordError:
            raise
        except ValueError as error:
            raise RecordError(self.records.path, offset, str(error)) from error
        return labels, content


def read_heads(
    records: RecordReader, offsets: Indices, faults: dict[int, RecordError] | None = None
) -> NDArray[np.void]:
    """The heads of the records at some offsets, structured (records,).

    Args:
        records: the file.
        offsets: of the records (records,).
        faults: where to put what is wrong with damaged ones, by row; their labels are NaN then.

    Raises:
        RecordError: a record is damaged, and `faults` is not given.
    """
    heads, plain = _gathered(records, offsets)
    images = RecordImages(records)
    for row in np.flatnonzero(~plain).tolist():  # in parts, or damaged
        try:
            labels = images.face(int(offsets[row]))[0]
        except RecordError as error:
            if faults is None:
                raise
            faults[row], labels = error, np.full(2, np.nan, np.float32)
        heads["flag"][row], heads["label"][row], heads["labels"][row] = len(labels), labels[0], labels[:2]
    return heads


def labels_of(heads: NDArray[np.void]) -> tuple[Floats, NDArray[np.bool_]]:
    """The first label of each head (records,), and whether it is one: `LABEL_LAW`."""
    labels = np.where(heads["flag"] == 0, heads["label"], heads["labels"][:, 0])
    return labels, (labels >= 0) & (labels < EXACT) & (labels == np.floor(labels))


def _gathered(records: RecordReader, offsets: Indices) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """What stands where heads should (records,), and which of them are whole records of one part."""
    content = np.frombuffer(records.memory, np.uint8)
    heads = np.empty(len(offsets), _HEAD)
    for start in range(0, len(offsets), CHUNK):
        places = offsets[start : start + CHUNK, np.newaxis] + np.arange(_HEAD.itemsize)
        gathered = content[np.minimum(places, records.size - 1)]  # a short last record: read again below
        heads[start : start + CHUNK] = gathered.view(_HEAD)[:, 0]
    length = (heads["word"] & LONGEST).astype(np.int64)
    plain = (heads["magic"] == int.from_bytes(MAGIC, "little")) & (heads["word"] <= LONGEST)
    plain &= (length >= HEADER.size + 4 * heads["flag"].astype(np.int64)) & (offsets + 8 + length <= records.size)
    return heads, plain
