"""Face sets as insightface ships them (MS1MV2, MS1MV3, Glint360K, WebFace): `train.rec` and `train.idx`, without mxnet.

    record 0                      labels [first, last]: identity records have the keys first .. last - 1
    records 1 .. first - 1        an image each, encoded; label = its identity
    records first .. last - 1     an identity each: labels [a, b], its images have the keys a .. b - 1

A set without identity records, or without record 0, has images only. What stands in a record: `face_records`.

Labels are float32, which counts in ones up to 2^24 = 16,777,216 only, and Glint360K has more images: ranges beyond that
are not believed, and labels there are read from the images.
"""

from pathlib import Path

import numpy as np

from qmargin.data._face_salvage import first_without_image, salvaged_labels
from qmargin.data.columns import Indices
from qmargin.data.face_records import EXACT, LABEL_LAW, RecordImages, labels_of, read_heads
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.packed import PackedSamples
from qmargin.data.recordio import LEAVE_OUT, RecordError, RecordReader, check_index, read_index


def read_face_records(path: Path, split: str = "train", *, damaged: list[RecordError] | None = None) -> PackedSamples:
    """Open a face set of a `.rec` file and the `.idx` file beside it.

    Read are the index and the identity records, and the labels of the first and last image of each; in a set without
    identity records the label of every image. A label is its identity's name, in eight digits: `00000007`. Labels may
    have gaps; classes are counted without.

    Args:
        path: the `.rec` file.
        split: split of all its samples: "train", "validation" or "test".
        damaged: where to put the faults of records that are damaged or contradict others; labels are read from every
            image then. Images whose identity no record tells are left out; one whose identity is known stays a sample,
            and is an error when it is read. Without it a damaged record is an error.

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
    first = _first_identity(RecordImages(records), index, keys, offsets, damaged)
    ranges = offsets[:0]
    if first is not None:
        ranges, image = offsets[keys >= first], (keys >= 1) & (keys < first)
        keys, offsets = keys[image], offsets[image]
    if damaged is None:
        labels = _labels_of_images(records, offsets, ranges)
    else:
        labels = salvaged_labels(records, offsets, ranges, damaged)
        told = labels >= 0
        keys, offsets, labels = keys[told], offsets[told], labels[told]
    if not len(labels):
        raise ValueError(f"{path} holds no image" + (f" that can be used: {damaged[0]}" if damaged else ""))
    found, codes = np.unique(labels, return_inverse=True)
    people = Identities(
        tuple(identity_name(label) for label in found.tolist()),
        codes.astype(np.int32),
        np.full(len(found), SPLITS.index(split), np.uint8),
    )
    plain = np.array_equal(keys, np.arange(1, len(keys) + 1))
    return PackedSamples(RecordImages(records), offsets[:, np.newaxis], people, None if plain else keys)


def identity_name(label: int) -> str:
    """Name of an identity that has a number only; names are in the order of the numbers."""
    return f"{label:08d}"


def _first_identity(
    images: RecordImages, index: Path, keys: Indices, offsets: Indices, damaged: list[RecordError] | None
) -> int | None:
    """Key of the first identity record, one beyond the last image; None where every record is an image."""
    if keys[0] != 0:
        return None
    try:
        labels, content = images.face(int(offsets[0]))
    except RecordError as error:
        if damaged is None:
            raise RecordError(images.records.path, error.offset, f"{error.fault}; {LEAVE_OUT}") from error
        first = first_without_image(images.records, offsets)
        if first is None or not np.array_equal(keys, np.arange(len(keys))):
            return None
        damaged.append(error)
        return first
    if len(labels) < 2 or len(content):
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


def _labels_of_images(records: RecordReader, images: Indices, ranges: Indices) -> Indices:
    """Label of each image (images,), from the identity records at `ranges` where there are any."""
    try:
        return _labels_of_ranges(records, images, ranges) if len(ranges) else _labels(records, images)
    except RecordError as error:
        raise RecordError(records.path, error.offset, f"{error.fault}; {LEAVE_OUT}") from error


def _labels_of_ranges(records: RecordReader, images: Indices, ranges: Indices) -> Indices:
    """Label of each image (images,) from the identity records at `ranges`, checked against their first and last."""
    with np.errstate(invalid="ignore"):  # what is no number covers no image
        bounds = read_heads(records, ranges)["labels"].astype(np.int64)  # (identities, 2), keys: image k is at k - 1
    bounds = bounds[bounds[:, 0] < bounds[:, 1]]  # of the others nobody is left
    bounds = bounds[(bounds[:, 1] <= EXACT) & (bounds[:, 0] >= 1)]
    starts, stops = bounds[np.argsort(bounds[:, 0])].T - 1
    if len(stops) and (stops[-1] > len(images) or np.any(starts[1:] < stops[:-1])):
        raise ValueError(
            f"the identity records of {records.path} overlap, or go beyond its {len(images):,} images: it is "
            f"damaged; {LEAVE_OUT}"
        )
    end = int(stops[-1]) if len(stops) else 0
    labels = _labels(records, images[starts])
    differ = np.flatnonzero(labels != _labels(records, images[stops - 1]))
    if len(differ):
        start, stop = int(starts[differ[0]]) + 1, int(stops[differ[0]])
        raise ValueError(
            f"an identity record of {records.path} says that images {start:,} to {stop:,} are of one identity, their "
            f"labels say they are not (so do {len(differ) - 1:,} others): it is damaged; {LEAVE_OUT}"
        )
    lengths = stops - starts
    if lengths.sum() != end or (end < len(images) and len(images) < EXACT):
        raise ValueError(
            f"{len(images) - int(lengths.sum()):,} of the {len(images):,} images of {records.path} are of no identity "
            f"record: it is damaged; {LEAVE_OUT}"
        )
    return np.concatenate([np.repeat(labels, lengths), _labels(records, images[end:])])


def _labels(records: RecordReader, offsets: Indices) -> Indices:
    """Label of the images at some offsets (images,), from their headers."""
    labels, good = labels_of(read_heads(records, offsets))
    wrong = np.flatnonzero(~good)
    if len(wrong):
        raise RecordError(
            records.path,
            int(offsets[wrong[0]]),
            f"has label {labels[wrong[0]]:g} ({len(wrong):,} records have such): {LABEL_LAW}",
        )
    return labels.astype(np.int64)
