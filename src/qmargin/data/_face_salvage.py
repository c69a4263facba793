"""What can be told of a face set whose records are damaged or contradict each other, for `qmargin prepare --skip-bad`.

Whose an image is, its identity record says: the label that most images of its range have is the identity's. Where none
leads, or the images cannot be read, the identity records before and after tell, if they leave one number only. Images
of no such record have their own label. Nothing that is doubtful is kept in silence.
"""

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.face_records import EXACT, HEADER, LABEL_LAW, labels_of, read_heads
from qmargin.data.recordio import LONGEST, RecordError, RecordReader


def salvaged_labels(records: RecordReader, images: Indices, identities: Indices, damaged: list[RecordError]) -> Indices:
    """Label of each image (images,); -1 where it cannot be told.

    An image whose identity is known keeps that label, also where its record is damaged or says otherwise:
    `RecordImages.encoded` refuses it then, so it is listed there, and its identity keeps its place among the labels.

    Args:
        records: the file.
        images: offsets of its images, in the order of their keys from 1 on.
        identities: offsets of its identity records; none where it has none.
        damaged: where to put the faults of identity records that are not used, and of images without a label.
    """
    values, good = labels_of(read_heads(records, images, {}))
    own = np.where(good, values, -1).astype(np.int64)
    starts, stops = _ranges(records, identities, len(images), damaged)
    lengths = stops - starts
    rows = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)  # images of ranges
    owners = np.repeat(np.arange(len(starts)), lengths)
    of_ranges = _told_by_neighbours(_voted(owners, own[rows], len(starts)))
    out_of_range = np.isin(own, of_ranges[lengths > 0])  # of the identity that they name
    labels = np.where(out_of_range, -1, own)
    labels[rows] = of_ranges[owners]
    damaged.extend(_fault(records, int(offset)) for offset in images[labels < 0])
    return labels


def first_without_image(records: RecordReader, offsets: Indices) -> int | None:
    """Place of the first of the records without an image at the end of a set; None where there are none."""
    faults: dict[int, RecordError] = {}
    heads = read_heads(records, offsets, faults)
    image = (heads["word"] > LONGEST) | (heads["word"] != HEADER.size + 4 * heads["flag"])  # in parts, or has content
    image[list(faults)] = False
    first = int(np.flatnonzero(image)[-1]) + 1 if image.any() else len(offsets)
    return first if first < len(offsets) else None


def _ranges(
    records: RecordReader, identities: Indices, images: int, damaged: list[RecordError]
) -> tuple[Indices, Indices]:
    """Where the images of each identity record start and stop, counted from 0; the same where it is not believed."""
    faults: dict[int, RecordError] = {}
    heads = read_heads(records, identities, faults)
    low, high = np.where(heads["flag"][:, np.newaxis] < 2, np.nan, heads["labels"]).astype(np.float64).T
    rounded = (high > EXACT) & (images >= EXACT)
    fits = (
        (low >= 1) & (high >= 1) & (high <= min(images + 1, EXACT)) & (low == np.floor(low)) & (high == np.floor(high))
    )
    used = np.flatnonzero(fits & (low < high))  # of the others nobody is left
    used = used[~_overlapping(low[used], high[used])]
    wrong = ~(fits | rounded) | (fits & (low < high) & ~np.isin(np.arange(len(low)), used))
    for row in np.flatnonzero(wrong).tolist():
        says = f"says that its images are {low[row]:g} to {high[row] - 1:g}: not among {images:,}, or another's too"
        damaged.append(faults.get(row) or RecordError(records.path, int(identities[row]), says))
    starts, stops = np.zeros((2, len(low)), np.int64)
    starts[used], stops[used] = low[used] - 1, high[used] - 1
    return starts, stops


def _overlapping(starts: NDArray[np.float64], stops: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which ranges have something in common with another."""
    order = np.argsort(starts, kind="stable")
    found = np.zeros(len(starts), bool)
    found[order[1:]] = starts[order[1:]] < np.maximum.accumulate(stops[order])[:-1]
    found[order[:-1]] |= stops[order[:-1]] > starts[order[1:]]
    return found


def _voted(owners: Indices, labels: Indices, ranges: int) -> Indices:
    """The label of each range (ranges,) that most of its images have, and no other range more often; -1: none."""
    known = labels >= 0
    pairs, counts = np.unique(owners[known] * EXACT + labels[known], return_counts=True)
    leading = _leading(pairs // EXACT, counts)
    pairs, counts = pairs[leading], counts[leading]
    pairs = pairs[_leading(pairs % EXACT, counts)]
    voted = np.full(ranges, -1)
    voted[pairs // EXACT] = pairs % EXACT
    return voted


def _leading(groups: Indices, counts: Indices) -> NDArray[np.bool_]:
    """Which entries have the largest count of their group, and alone."""
    order = np.lexsort((counts, groups))
    group, count = groups[order], counts[order]
    follows = group[1:] == group[:-1]
    leading = np.zeros(len(groups), bool)
    leading[order] = ~np.append(follows, False) & ~np.append(False, follows & (count[1:] == count[:-1]))
    return leading


def _told_by_neighbours(labels: Indices) -> Indices:
    """The labels of identity records; a -1 is replaced where labels ascend and leave one number for it."""
    known = np.flatnonzero(labels >= 0)
    places, values = np.append(-1, known), np.append(-1, labels[known])  # the first label is 0 or more
    if np.any(np.diff(values) <= 0):
        return labels
    unknown = np.flatnonzero(labels < 0)
    left = np.searchsorted(known, unknown)  # the place in `places` of what is known before it
    unknown, left = unknown[left < len(known)], left[left < len(known)]
    told = np.diff(values)[left] == np.diff(places)[left]
    filled = labels.copy()
    filled[unknown[told]] = (values[left] + unknown - places[left])[told]
    return filled


def _fault(records: RecordReader, offset: int) -> RecordError:
    """Why the image at an offset has no label."""
    heads = read_heads(records, np.array([offset]), faults := dict[int, RecordError]())
    (label,), (good,) = labels_of(heads)
    says = "no identity record bears it out: whose it is cannot be told" if good else LABEL_LAW
    return faults.get(0) or RecordError(records.path, offset, f"has label {label:g}: {says}")
