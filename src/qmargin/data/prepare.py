"""Face sets from one layout to another: every image looked at, aligned if wanted, and nothing left out in silence."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qmargin._files import new_folder
from qmargin.data._checks import check_counts, first_few
from qmargin.data.align import align_face
from qmargin.data.decode import EncodedImage, decode_rgb, single_image
from qmargin.data.face_sets import read_face_records
from qmargin.data.folders import read_image_folder
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.prepared import write_record
from qmargin.data.recordio import RecordError
from qmargin.data.sinks import SINKS, Face, Layout

BLOCK = 256  # images that are looked at together
ENDINGS = {"BMP": "bmp", "JPEG": "jpg", "PNG": "png", "PPM": "ppm", "WEBP": "webp"}
JPEG_QUALITY = 95  # of aligned crops

Landmarks = Mapping[str, NDArray[np.float64]]
Kind = Literal["folder", "rec"]
Goal = Literal["folder", "rec", "tar"]
Skip = tuple[str, str]  # what was left out, and why


class EncodedSamples(Protocol):
    """Samples whose image files can be copied: `Manifest` and `PackedSamples`."""

    @property
    def people(self) -> Identities:
        """Identity and split of each."""

    def path(self, index: int) -> str:
        """What names a sample."""

    def stem(self, index: int) -> str:
        """File name of a sample without its ending, unique within its identity."""

    def encoded(self, index: int) -> EncodedImage:
        """The bytes of a sample's image file."""


@dataclass(frozen=True)
class Prepared:
    """What was written, and what was left out."""

    folder: Path
    images: int
    identities: int
    skipped: tuple[Skip, ...]


def prepare_faces(
    source: Path,
    kind: Kind,
    out: Path,
    to: Goal,
    *,
    split: str = "train",
    landmarks: Path | None = None,
    skip_bad: bool = False,
    per_shard: int = 10_000,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Prepared:
    """Convert a face set; the folder `out` appears when it is whole.

    Every image is decoded once to see that it can be: a damaged or empty file, one with more than 8 bits a channel or
    an animation is bad. Files are copied byte for byte, unless `landmarks` are given. Beside the images are written
    `identities.csv` (label and identity), `skipped.csv` where something was left out, and the checksums of all.

    Args:
        source: folder of identity folders, or a `.rec` file with its `.idx`.
        kind: which of the two.
        out: folder to write; it must not exist.
        to: folder: `identity/name` and a manifest; rec: `train.rec` and `train.idx`; tar: WebDataset shards, shuffled.
        split: split that all samples get.
        landmarks: a CSV file with the columns path, x1, y1, ..., x5, y5, in the order of `FACE_TEMPLATE`: faces are
            cropped to 112x112 by `align_face` and saved as JPEG of quality 95. Paths are those of the source's samples.
        skip_bad: leave bad images out, and those whose label contradicts an identity record, and list them; otherwise
            the first one ends the preparation. A label keeps its identity, also of those that lost all images.
        per_shard: samples of a tar shard.
        seed: of the order in tar shards.
        workers: threads that look at images.
        progress: told images done and images in all.

    Returns:
        Counts, and what was left out.

    Raises:
        ValueError: the source or an image is bad, `out` exists, the disk is full (nothing is left behind then).
    """
    check_counts("prepare_faces", 1, per_shard=per_shard, workers=workers)
    if split not in SPLITS:
        raise ValueError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
    damaged = list[RecordError]() if skip_bad else None
    samples: EncodedSamples = (
        read_face_records(source, split, damaged=damaged) if kind == "rec" else read_image_folder(source, split)
    )
    skipped: list[Skip] = [(f"{source.name}@{error.offset}", str(error)) for error in damaged or ()]
    points = None if landmarks is None else read_landmarks(landmarks)
    names = samples.people.names
    order = _order(samples, seed, shuffled=SINKS[to].shuffled)
    images, kept = 0, set[int]()
    with new_folder(out) as folder:
        _write_rows(folder / "identities.csv", ("label", "identity"), enumerate(names))
        with SINKS[to].open(Layout(folder=folder, names=names, split=split, per_shard=per_shard)) as add:
            for done, face in enumerate(_faces(samples, order, points, workers), 1):
                if isinstance(face, Face):
                    add(face)
                    images += 1
                    kept.add(face.label)
                elif skip_bad:
                    skipped.append(face)
                else:
                    raise ValueError(f"{face[1]}; to leave bad images out and have them listed: --skip-bad")
                progress(done, len(order))
            if not images:
                raise ValueError(f"no image of {source} is good; the first is bad because: {skipped[0][1]}")
        if skipped:
            _write_rows(folder / "skipped.csv", ("path", "reason"), skipped)
        counts: dict[str, object] = {"kind": to, "images": images, "identities": len(kept), "skipped": len(skipped)}
        write_record(folder, counts)
    return Prepared(out, images, len(kept), tuple(skipped))


def _order(samples: EncodedSamples, seed: int, *, shuffled: bool) -> NDArray[np.int64]:
    if shuffled:
        return np.random.default_rng(seed).permutation(len(samples.people))
    return np.argsort(samples.people.codes, kind="stable")


def read_landmarks(path: Path) -> Landmarks:
    """Five points (5, 2), in pixels, for each path of a CSV file.

    Raises:
        ValueError: it cannot be read, a column is missing, a number is none or not finite, a path is listed twice.
    """
    columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
    found: dict[str, NDArray[np.float64]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in ("path", *columns) if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}, line 1: no column {', '.join(missing)}; landmarks are path, x1, y1, ..., y5")
            for row in reader:
                points = _points([row[column] for column in columns])
                if points is None or row["path"] in found:
                    fault = "is listed twice" if row["path"] in found else "has not ten finite numbers"
                    raise ValueError(f"{path}, line {reader.line_num}: {row['path']!r} {fault}")
                found[row["path"]] = points
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the landmarks {path}: {error}") from error
    return found


def _points(fields: list[str]) -> NDArray[np.float64] | None:
    try:
        points = np.array([float(field) for field in fields]).reshape(5, 2)
    except (TypeError, ValueError):
        return None
    return points if np.isfinite(points).all() else None


def _faces(
    samples: EncodedSamples, order: NDArray[np.int64], points: Landmarks | None, workers: int
) -> Iterator[Face | Skip]:
    """Each sample as it is to be written, in order; or why it cannot be."""

    def look(index: int) -> Face | Skip:
        try:
            return _face(samples, index, points)
        except ValueError as error:
            return samples.path(index), str(error)

    with ThreadPoolExecutor(workers, thread_name_prefix="qmargin-prepare") as pool:
        for start in range(0, len(order), BLOCK):
            yield from pool.map(look, order[start : start + BLOCK].tolist())


def _face(samples: EncodedSamples, index: int, points: Landmarks | None) -> Face:
    encoded, path = samples.encoded(index), samples.path(index)
    ending = ENDINGS[single_image(encoded)]
    image = decode_rgb(encoded)
    content = bytes(encoded.content)
    if points is not None:
        if path not in points:
            raise ValueError(f"{path} has no landmarks; give a row for every image")
        aligned = BytesIO()
        try:
            Image.fromarray(align_face(image, points[path])).save(aligned, "JPEG", quality=JPEG_QUALITY)
        except ValueError as error:
            raise ValueError(f"cannot align {path}: {error}") from error
        content, ending = aligned.getvalue(), "jpg"
    label = int(samples.people.codes[index])
    return Face(content, ending, samples.stem(index), samples.people.names[label], label)


def _write_rows(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def describe_skips(skipped: tuple[Skip, ...]) -> str:
    """Number and first few of what was left out."""
    return f"{len(skipped):,} left out: {first_few([path for path, _ in skipped])}"
