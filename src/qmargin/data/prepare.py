"""Face sets from one layout to another: every image looked at, aligned if wanted, and nothing left out in silence."""

import csv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qmargin._files import check_new, make_folder, new_folder
from qmargin.data._checks import check_counts
from qmargin.data.align import align_face
from qmargin.data.decode import decode_rgb, single_image
from qmargin.data.landmarks import Landmarks, read_landmarks, unused_landmarks
from qmargin.data.prepare_source import ENDINGS, EncodedSamples, Goal, Kind, check_names, open_source
from qmargin.data.prepared import write_record
from qmargin.data.sinks import SINKS, Add, Face, Layout
from qmargin.data.skips import Skip, describe_reasons

BLOCK = 256  # images that are looked at together
JPEG_QUALITY = 95  # of aligned crops
PER_SHARD = 10_000


@dataclass(frozen=True)
class Prepared:
    """What was written, and what was left out."""

    folder: Path
    images: int
    identities: int
    skipped: tuple[Skip, ...]
    unused_landmarks: int = 0


def prepare_faces(
    source: Path,
    kind: Kind,
    out: Path,
    to: Goal,
    *,
    split: str | None = None,
    landmarks: Path | None = None,
    skip_bad: bool = False,
    per_shard: int | None = None,
    seed: int | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Prepared:
    """Convert a face set; the folder `out` appears when it is whole.

    A source that `qmargin prepare` wrote is compared with all its checksums first, or damage would be given new ones.
    Every image is decoded once to see that it can be: a damaged or empty file, one with more than 8 bits a channel or
    an animation is bad. Files are copied byte for byte, unless `landmarks` are given. Beside the images are written
    `identities.csv` (label and identity), `skipped.csv` where something was left out, and the checksums of all.

    Args:
        source: folder of identity folders, or a `.rec` file with its `.idx`.
        kind: which of the two.
        out: folder to write, its parents made where missing; it must not exist, nor lie in the folder of the source.
        to: folder: `identity/name` and a manifest; rec: `train.rec` and `train.idx`; tar: WebDataset shards, shuffled.
        split: split that all samples get, train for rec; unless given that of a folder that was prepared, else train.
        landmarks: a CSV file with the columns path, x1, y1, ..., x5, y5, in the order of `FACE_TEMPLATE`: faces are
            cropped to 112x112 by `align_face` and saved as JPEG of quality 95. Paths are those of the source's samples.
        skip_bad: leave bad images out, and those whose label contradicts an identity record, and list them; otherwise
            the first one ends the preparation. A label keeps its identity, also of those that lost all images.
        per_shard: samples of a tar shard, 10,000 unless given; of tar alone.
        seed: of the order in tar shards, 0 unless given; of tar alone.
        workers: threads that look at images.
        progress: told images done and images in all.

    Returns:
        Counts, and what was left out.

    Raises:
        ValueError: the source or an image is bad, a prepared source is not as it was written, two images would have one
            name, no landmarks are of the source, `out` exists, the disk is full (nothing is left behind then,
            but parents of `out`).
    """
    shards = _shard_options(to, per_shard=per_shard, seed=seed)
    check_counts("prepare_faces", 1, workers=workers)
    _check_place(source, kind, out)
    points = None if landmarks is None else read_landmarks(landmarks)
    opened = open_source(source, kind, to, split, skip_bad=skip_bad)
    samples, skipped, unused = opened.samples, opened.skipped, 0
    if points is not None and landmarks is not None:
        unused = unused_landmarks(points, landmarks, (path for path, _, _ in samples.rows()), source)
    if to == "folder" and kind == "folder":  # names from a .rec are numbers
        check_names(samples, points)
    names = samples.people.names
    order = _order(samples, shards["seed"], shuffled=SINKS[to].shuffled)
    make_folder(out.parent)
    with new_folder(out) as folder:
        _write_rows(folder / "identities.csv", ("label", "identity"), enumerate(names))
        layout = Layout(folder=folder, names=names, split=opened.split, per_shard=shards["per_shard"])
        with SINKS[to].open(layout) as add:
            faces = _told(_faces(samples, order, points, workers), len(order), progress)
            images, kept = _written(faces, add, skipped, skip_bad=skip_bad)
            if not images:
                raise ValueError(f"no image of {source} is good: {describe_reasons(skipped)}")
        if skipped:
            _write_rows(folder / "skipped.csv", ("path", "reason"), skipped)
        counts: dict[str, object] = {"kind": to, "images": images, "identities": kept, "skipped": len(skipped)}
        write_record(folder, counts)
    return Prepared(out, images, kept, tuple(skipped), unused)


def _shard_options(to: Goal, **given: int | None) -> dict[str, int]:
    """The options of tar shards, which nothing else has."""
    asked = {name: value for name, value in given.items() if value is not None}
    if asked and to != "tar":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise ValueError(f"{flags} is of tar shards alone, got --to {to}: leave it out, or write --to tar")
    options = {"per_shard": PER_SHARD, "seed": 0, **asked}
    check_counts("prepare_faces", 1, per_shard=options["per_shard"])
    check_counts("prepare_faces", 0, seed=options["seed"])
    return options


def _check_place(source: Path, kind: Kind, out: Path) -> None:
    """Refuse a folder that is there, and one that the source would have for an identity."""
    check_new(out)
    if kind == "folder" and out.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"--out {out} lies in the source {source}, and would be read as one of its people: give another"
        )


def _told(faces: Iterator[Face | Skip], total: int, progress: Callable[[int, int], None]) -> Iterator[Face | Skip]:
    for done, face in enumerate(faces, 1):
        yield face
        progress(done, total)


def _written(faces: Iterator[Face | Skip], add: Add, skipped: list[Skip], *, skip_bad: bool) -> tuple[int, int]:
    """Number of images that were written and of their identities; what was not joins `skipped`, or is an error."""
    images, kept = 0, set[int]()
    for face in faces:
        if isinstance(face, Face):
            add(face)
            images += 1
            kept.add(face.label)
        elif skip_bad:
            skipped.append(face)
        else:
            raise ValueError(f"{face[1]}; to leave bad images out and have them listed: --skip-bad")
    return images, len(kept)


def _order(samples: EncodedSamples, seed: int, *, shuffled: bool) -> NDArray[np.int64]:
    if shuffled:
        return np.random.default_rng(seed).permutation(len(samples.people))
    return np.argsort(samples.people.codes, kind="stable")


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
