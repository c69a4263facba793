"""What `prepare_faces` converts: compared with its checksums, opened, and checked before an image is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from qmargin.data.columns import Indices
from qmargin.data.decode import EncodedImage, single_image
from qmargin.data.face_sets import read_face_records
from qmargin.data.folders import read_image_folder
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.landmarks import Landmarks
from qmargin.data.prepared import check_prepared, listed_images
from qmargin.data.recordio import RecordError
from qmargin.data.skips import Skip

ENDINGS = {"BMP": "bmp", "JPEG": "jpg", "PNG": "png", "PPM": "ppm", "WEBP": "webp"}

Kind = Literal["folder", "rec"]
Goal = Literal["folder", "rec", "tar"]


class EncodedSamples(Protocol):
    """Samples whose image files can be copied: `Manifest` and `PackedSamples`."""

    @property
    def people(self) -> Identities:
        """Identity and split of each."""

    def path(self, index: int) -> str:
        """What names a sample."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Path, identity and split of each, in order."""

    def stem(self, index: int) -> str:
        """File name of a sample without its ending, unique within its identity."""

    def encoded(self, index: int) -> EncodedImage:
        """The bytes of a sample's image file."""


@dataclass(frozen=True)
class Source:
    """What is converted."""

    samples: EncodedSamples
    split: str
    skipped: list[Skip]  # records that are left out


def open_source(source: Path, kind: Kind, to: Goal, split: str | None, *, skip_bad: bool) -> Source:
    """The samples of a set, all of it as it was written where `qmargin prepare` wrote it; see `prepare_faces`."""
    check_split(split, to)
    if kind == "rec" and source.is_dir():
        file = min(source.glob("*.rec"), default=source / "train.rec")
        raise ValueError(f"{source} is a folder, --from rec takes a file and its .idx: give {file}")
    check_prepared(source if kind == "folder" else source.parent, contents=True)
    if kind == "folder":
        chosen = _split_of_folder(source, split)
        check_split(chosen, to)
        return Source(read_image_folder(source, chosen), chosen, [])
    damaged = list[RecordError]() if skip_bad else None
    chosen = split or "train"
    samples = read_face_records(source, chosen, damaged=damaged)
    return Source(samples, chosen, [(f"{source.name}@{error.offset}", str(error)) for error in damaged or ()])


def check_split(split: str | None, to: Goal) -> None:
    """Refuse what is no split, and one that would be lost."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
    if to == "rec" and split not in (None, "train"):
        raise ValueError(
            f"a .rec file knows no splits, all its images train: --to rec takes the split train, got {split!r}; "
            "--to folder and --to tar keep it"
        )


def _split_of_folder(source: Path, split: str | None) -> str:
    """The split that is asked for; unless one is, that which the folder was prepared with, or train."""
    listed = listed_images(source)
    if listed is None:
        return split or "train"
    stored: str = listed.split[0]  # of all its samples
    if split not in (None, stored):
        raise ValueError(
            f"{source} was prepared with the split {stored}, asked was {split}: leave --split out, or prepare the set "
            "again from what it was made of"
        )
    return stored


def check_names(samples: EncodedSamples, points: Landmarks | None) -> None:
    """Refuse two images that would be written under one name; the headers of images of one stem are read."""
    codes = samples.people.codes
    stems = ((code, samples.stem(index)) for index, code in enumerate(codes.tolist()))
    doubtful = _alike(np.fromiter(map(hash, stems), np.int64, len(codes)))
    seen: dict[str, str] = {}
    for index in doubtful.tolist():
        path, ending = samples.path(index), _ending(samples, index, points)
        if ending is None:
            continue
        name = f"{samples.people.names[codes[index]]}/{samples.stem(index)}.{ending}"
        if name in seen:
            raise ValueError(f"two images would be written as {name}: rename {seen[name]} or {path}")
        seen[name] = path


def _alike(keys: Indices) -> Indices:
    """Places of keys that occur more than once."""
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[group] > 1)


def _ending(samples: EncodedSamples, index: int, points: Landmarks | None) -> str | None:
    """Of the file that will be written; None where the image is bad."""
    try:
        ending = ENDINGS[single_image(samples.encoded(index))]
    except ValueError:
        return None
    if points is None:
        return ending
    return "jpg" if samples.path(index) in points else None
