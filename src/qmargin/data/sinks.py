"""Where prepared faces go: a folder of images, a `.rec` file, or tar shards, in a folder that is there."""

import csv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from qmargin._files import replacing
from qmargin.data.face_records import pack_face
from qmargin.data.prepared import MANIFEST
from qmargin.data.recordio import RecordWriter
from qmargin.data.shards import ShardWriter

RECORDS = "train.rec"


@dataclass(frozen=True)
class Face:
    """A face to be written: an image file as bytes, and whose it is."""

    content: bytes
    ending: str  # of its format: jpg, png, ...
    stem: str  # of its file name, unique within its identity
    identity: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a sink is told before the first face."""

    folder: Path
    names: tuple[str, ...]  # of all identities, in the order of their labels
    split: str
    per_shard: int


Add = Callable[[Face], object]


@dataclass(frozen=True)
class Sink:
    """A way to write faces: `open(layout)` gives the function that adds one."""

    open: Callable[[Layout], AbstractContextManager[Add]]
    shuffled: bool  # whether faces are to come in random order, else identity after identity


@contextmanager
def folder_sink(layout: Layout) -> Iterator[Add]:
    """Images `identity/stem.ending`, and a manifest with a checksum for each: what `read_manifest` reads."""
    with replacing(layout.folder / MANIFEST) as path, path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("path", "identity", "split", "bytes", "sha256"))

        def add(face: Face) -> None:
            name = f"{face.identity}/{face.stem}.{face.ending}"
            image = layout.folder / name
            image.parent.mkdir(exist_ok=True)
            if image.exists():
                raise ValueError(f"two images would be written as {name}: rename one of them")
            image.write_bytes(face.content)
            rows.writerow((name, face.identity, layout.split, len(face.content), sha256(face.content).hexdigest()))

        yield add


@contextmanager
def record_sink(layout: Layout) -> Iterator[Add]:
    """`train.rec` and `train.idx` as insightface lays them out, with identity records."""
    ranges: dict[int, tuple[int, int]] = {}  # keys of the images of each label
    with RecordWriter(layout.folder / RECORDS) as writer:
        writer.write(0, pack_face(b"", (0, 0), 0))  # its numbers are known at the end

        def add(face: Face) -> None:
            key = writer.count
            writer.write(key, pack_face(face.content, [face.label], key))
            ranges[face.label] = (ranges.get(face.label, (key, key))[0], key + 1)

        yield add
        first = writer.count
        for key, bounds in enumerate(ranges.values(), first):
            writer.write(key, pack_face(b"", bounds, key))
        writer.overwrite_first(pack_face(b"", (first, writer.count), 0))


@contextmanager
def shard_sink(layout: Layout) -> Iterator[Add]:
    """Tar shards and their index."""
    with ShardWriter(layout.folder, layout.names, layout.split, layout.per_shard) as writer:
        yield lambda face: writer.write(face.content, face.ending, face.label)


SINKS = {
    "folder": Sink(folder_sink, shuffled=False),
    "rec": Sink(record_sink, shuffled=False),
    "tar": Sink(shard_sink, shuffled=True),  # who streams shards sees a mixture
}
