"""Face sets as insightface ships them (MS1MV2, MS1MV3, Glint360K, WebFace): `train.rec` and `train.idx`, without mxnet.

    record 0                      labels [first, last]: identity records have the keys first .. last - 1
    records 1 .. first - 1        an image each, encoded; label = its identity
    records first .. last - 1     an identity each: labels [a, b], its images have the keys a .. b - 1

A set without identity records, or without record 0, has images only. A payload is a header, labels and the image:

    flag (uint32), label (float32), id (uint64), id2 (uint64), `flag` labels (float32) that stand for `label`, content

Labels are float32, which counts in ones up to 2^24 = 16,777,216 only, and Glint360K has more images: ranges beyond that
are not believed, and labels there are read from the images.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.decode import EncodedImage
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.packed import PackedSamples
from qmargin.data.recordio import LONGEST, MAGIC, RecordError, RecordReader, check_index, read_index

Floats = NDArray[np.float32]

HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
EXACT = 1 << 24  # integers up to here are float32 numbers
CHUNK = 1 << 18  # records whose heads are gathered at a time
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
                f"has label {labels[0]:g}, its identity record says {int(identity)}: the set is damaged",
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

    def fault(self, offset: int) -> RecordError | None:
        """What is wrong with the record at an offset, if anything."""
        try:
            self.face(offset)
        except RecordError as error:
            return error
        return None


def read_face_records(path: Path, split: str = "train", *, damaged: list[RecordError] | None = None) -> PackedSamples:
    """Open a face set of a `.rec` file and the `.idx` file beside it.

    Read are the index and the identity records, and the labels of the first and last image of each; in a set without
    identity records the label of every image. A label is its identity's name, in eight digits: `00000007`. Labels may
    have gaps; classes are counted without.

    Args:
        path: the `.rec` file.
        split: split of all its samples: "train", "validation" or "test".
        damaged: where to put the faults of image records that are damaged; these are left out, and labels are read from
            every image. Without it a damaged record is an error.

    Returns:
        The images in the order of their keys.

    Raises:
        ValueError: a file is missing, empty or cut off; the index is of another file; identity records and labels
            contradict each other; a label is not a whole number in [0, 2^24]; a record is damaged (by its offset).

    Sibling: `RecordWriter` with `pack_face` writes one; `qmargin prepare faces` converts.
    """
    records = RecordReader(path)
    index = path.with_suffix(".idx")
    keys, offsets = read_index(index)
    check_index(records, index, offsets, damaged_allowed=damaged is not None)
    first = _first_identity(RecordImages(records), index, keys, offsets)
    ranges = offsets[:0]
    if first is not None:
        ranges, offsets = offsets[keys >= first], offsets[(keys >= 1) & (keys < first)]
    if damaged is not None:
        damaged.extend(_damaged(records, offsets))
        offsets = offsets[~np.isin(offsets, [error.offset for error in damaged])]
        ranges = offsets[:0]
    labels = _labels_of_ranges(records, offsets, ranges) if len(ranges) else _labels(records, offsets)
    if not len(labels):
        raise ValueError(f"{path} holds no image")
    found, codes = np.unique(labels, return_inverse=True)
    people = Identities(
        tuple(identity_name(label) for label in found.tolist()),
        codes.astype(np.int32),
        np.full(len(found), SPLITS.index(split), np.uint8),
    )
    return PackedSamples(RecordImages(records), offsets[:, np.newaxis], people)


def identity_name(label: int) -> str:
    """Name of an identity that has a number only; names are in the order of the numbers."""
    return f"{label:08d}"


def _first_identity(images: RecordImages, index: Path, keys: Indices, offsets: Indices) -> int | None:
    """Key of the first identity record, one beyond the last image; None where every record is an image."""
    labels, content = images.face(int(offsets[0]))
    if keys[0] != 0 or len(labels) < 2 or len(content):
        return None
    if not np.isfinite(labels).all():
        raise RecordError(images.records.path, int(offsets[0]), f"has labels {labels.tolist()}: it is damaged")
    first, last = int(labels[0]), int(labels[1])
    if first > EXACT:  # rounded: its true value is where the first identity record is
        near = np.flatnonzero(np.abs(keys - first) <= np.spacing(labels[0]))
        found = [int(keys[place]) for place in near if not len(images.face(int(offsets[place]))[1])]
        first = min(found, default=int(keys[-1]) + 1)
        last = int(keys[-1]) + 1
    if not (0 < first <= last and np.array_equal(keys, np.arange(last))):
        raise ValueError(
            f"record 0 of {images.records.path} says that records 1 to {first - 1:,} are images and {first:,} to "
            f"{last - 1:,} identities; {index} lists {len(keys):,} records, {keys[0]:,} to {keys[-1]:,}: it is "
            "damaged, or of another file"
        )
    return first


def _labels_of_ranges(records: RecordReader, images: Indices, ranges: Indices) -> Indices:
    """Label of each image (images,) from the identity records at `ranges`, checked against their first and last."""
    with np.errstate(invalid="ignore"):  # what is no number covers no image
        bounds = _heads(records, ranges)["labels"].astype(np.int64)  # (identities, 2), keys: image k stands at k - 1
    bounds = bounds[bounds[:, 0] < bounds[:, 1]]  # of the others nobody is left
    bounds = bounds[(bounds[:, 1] <= EXACT) & (bounds[:, 0] >= 1)]
    starts, stops = bounds[np.argsort(bounds[:, 0])].T - 1
    if len(stops) and (stops[-1] > len(images) or np.any(starts[1:] < stops[:-1])):
        raise ValueError(
            f"the identity records of {records.path} overlap, or go beyond its {len(images):,} images: it is damaged"
        )
    end = int(stops[-1]) if len(stops) else 0
    labels = _labels(records, images[starts])
    differ = np.flatnonzero(labels != _labels(records, images[stops - 1]))
    if len(differ):
        start, stop = int(starts[differ[0]]) + 1, int(stops[differ[0]])
        raise ValueError(
            f"an identity record of {records.path} says that images {start:,} to {stop:,} are of one identity, their "
            f"labels say they are not (so do {len(differ) - 1:,} others): it is damaged"
        )
    lengths = stops - starts
    if lengths.sum() != end or (end < len(images) and len(images) < EXACT):
        raise ValueError(
            f"{len(images) - int(lengths.sum()):,} of the {len(images):,} images of {records.path} are of no identity "
            "record: it is damaged"
        )
    return np.concatenate([np.repeat(labels, lengths), _labels(records, images[end:])])


def _labels(records: RecordReader, offsets: Indices) -> Indices:
    """Label of the images at some offsets (images,), from their headers."""
    heads = _heads(records, offsets)
    labels = np.where(heads["flag"] == 0, heads["label"], heads["labels"][:, 0])
    wrong = np.flatnonzero(~((labels >= 0) & (labels < EXACT) & (labels == np.floor(labels))))
    if len(wrong):
        raise RecordError(
            records.path,
            int(offsets[wrong[0]]),
            f"has label {labels[wrong[0]]:g} ({len(wrong):,} records have such): a label must be a whole number in "
            "[0, 16777216)",
        )
    return labels.astype(np.int64)


def _damaged(records: RecordReader, offsets: Indices) -> list[RecordError]:
    """The faults of those of some records that are damaged."""
    doubtful = offsets[~_gathered(records, offsets)[1]]
    faults = (RecordImages(records).fault(int(offset)) for offset in doubtful)
    return [fault for fault in faults if fault is not None]


def _heads(records: RecordReader, offsets: Indices) -> NDArray[np.void]:
    """The heads of the records at some offsets, structured (records,)."""
    heads, plain = _gathered(records, offsets)
    images = RecordImages(records)
    for row in np.flatnonzero(~plain):  # in parts, or damaged
        labels, _ = images.face(int(offsets[row]))
        heads["flag"][row], heads["label"][row], heads["labels"][row] = len(labels), labels[0], labels[:2]
    return heads


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
