"""The table of utterances: a `Manifest` of ids, speakers and splits, and where each recording lies."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.manifest import Manifest, SampleError
from qmargin.data.speech.wav import Recording


@dataclass(frozen=True, eq=False)
class Utterances:
    """Utterances and their speakers, in a fixed order; ids, speakers and splits keep the laws of `Manifest`.

    Args:
        table: ids (as paths), speakers (as identities) and splits; `table.root` is what `files` are relative to.
        files: audio file of each utterance, relative to the root or from the file system's root on.
        spans: first and last second of each utterance in its file (utterances, 2); None where utterances are files.
        bytes_at: offset and size in bytes of each audio file in `files` (utterances, 2); None where files are plain.

    Raises:
        ValueError: a number of files, spans or bytes that is not the number of utterances.

    Siblings: `qmargin.data.speech.folders`, `kaldi`, `wespeaker`, `lhotse`, `shar` and `tables` make one from files.
    """

    table: Manifest
    files: tuple[str, ...] = field(repr=False)
    spans: NDArray[np.float64] | None = field(default=None, repr=False)
    bytes_at: NDArray[np.int64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        if len(self.files) != len(self.table):
            raise ValueError(f"{len(self.table)} utterances need as many files, got {len(self.files)}")
        for name, column in (("spans", self.spans), ("bytes_at", self.bytes_at)):
            if column is not None and column.shape != (len(self.table), 2):
                raise ValueError(f"{name} must be of shape ({len(self.table)}, 2), got {column.shape}")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def num_classes(self) -> int:
        """Number of speakers."""
        return self.table.num_classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each utterance (utterances,), in [0, num_classes). A new array."""
        return self.table.labels

    @cached_property
    def digest(self) -> str:
        """SHA-256 over ids, speakers, splits and spans; where the files lie does not enter."""
        if self.spans is None:
            return self.table.digest
        return sha256(self.table.digest.encode() + np.ascontiguousarray(self.spans, "<f8").tobytes()).hexdigest()

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Id, speaker and split of each utterance, in order."""
        return self.table.rows()

    def path(self, index: int) -> str:
        """Id of an utterance."""
        return self.table.path(index)

    def recording(self, index: int) -> Recording:
        """Where an utterance lies."""
        span, place = self.spans, self.bytes_at
        return Recording(
            self.table.root / self.files[index],
            None if span is None else (float(span[index, 0]), float(span[index, 1])),
            None if place is None else (int(place[index, 0]), int(place[index, 1])),
        )

    def take(self, rows: Indices) -> "Utterances":
        """The utterances of some rows, in that order; labels are counted anew."""
        return Utterances(
            self.table.take(rows),
            tuple(self.files[row] for row in rows.tolist()),
            None if self.spans is None else self.spans[rows],
            None if self.bytes_at is None else self.bytes_at[rows],
        )

    def subset(self, split: str) -> "Utterances":
        """The utterances of one split, in order; labels are counted anew. Errors are those of `Manifest.subset`."""
        return self.take(self.table.people.in_split(split))

    def hold_out(self, identities: int, seed: int) -> "Utterances":
        """Move some train speakers, chosen by `seed`, to the split "validation"; as `Manifest.hold_out`."""
        return replace(self, table=self.table.hold_out(identities, seed))


def joined(parts: Mapping[str, Utterances]) -> Utterances:
    """The utterances of several tables as one; files are named from the file system's root on.

    Where one of them has spans, the utterances of the others have one from 0 s to their end.

    Args:
        parts: the tables, by the names that errors call them.

    Raises:
        ValueError: an id twice, a speaker in two splits, some tables in archives and some not.
    """
    tables = list(parts.values())
    files = tuple(str(part.table.root.resolve() / file) for part in tables for file in part.files)
    places = [part.bytes_at for part in tables if part.bytes_at is not None]
    if len(places) not in (0, len(tables)):
        raise ValueError(f"{len(places)} of {len(tables)} tables have places in archives: give all of them or none")
    segmented = any(part.spans is not None for part in tables)
    return Utterances(
        _joined_tables(parts),
        files,
        np.concatenate([_spans(part) for part in tables]) if segmented else None,
        np.concatenate(places) if places else None,
    )


def _joined_tables(parts: Mapping[str, Utterances]) -> Manifest:
    tables = [part.table for part in parts.values()]
    try:
        return Manifest(
            Path("/"),
            tuple(name for table in tables for name in table.paths),
            tuple(name for table in tables for name in table.identities),
            tuple(split for table in tables for split in table.split),
        )
    except SampleError as error:
        owners = [name for name, part in parts.items() for _ in range(len(part))]
        raise ValueError(f"{owners[error.index]}: {error.fault}") from error


def _spans(part: Utterances) -> NDArray[np.float64]:
    """First and last second of each utterance (utterances, 2); of whole files 0 and infinity."""
    return np.tile([0.0, math.inf], (len(part), 1)) if part.spans is None else part.spans
