"""Tar shards in the layout of WebDataset: random access to local ones by an index, and what writes them.

    000000.tar: 000000000.cls, 000000000.jpg, 000000001.cls, ...       a key, and a member for each part of its sample

The key is a member's name up to the first dot of its file name; `cls` is the label, a whole number in decimal text.
The index, `index.npz`, has shard, offset and size of every image, so that samples are read in any order: the order of
training stays a function of (seed, step), and a resumed run goes on with the very next image. Shards that were written
by others have no index; it is then made in memory by walking the headers of their members.

Sibling: `qmargin.data.streaming`, for shards that are not local.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from qmargin._files import read_arrays, replacing, write_arrays
from qmargin.data._checks import check_counts, first_few
from qmargin.data._webdataset import webdataset
from qmargin.data.columns import Indices
from qmargin.data.decode import EncodedImage
from qmargin.data.face_sets import identity_name
from qmargin.data.identities import SPLITS, Identities
from qmargin.data.packed import PackedSamples

INDEX = "index.npz"
IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm")  # endings of image members, lower case
LABEL = "cls"
BLOCK = 512  # bytes of a member's header
_MAGIC = slice(257, 262)
_SIZE = slice(124, 136)


@dataclass(frozen=True)
class TarImages:
    """The images of the shards of a folder; a place is (shard, offset, size)."""

    root: Path
    shards: tuple[str, ...]
    sizes: tuple[int, ...]  # bytes of each shard

    @property
    def fingerprint(self) -> str:
        """Names and sizes of the shards."""
        return f"tar {list(zip(self.shards, self.sizes, strict=True))}"

    def path(self, place: Indices) -> str:
        """`000000.tar@offset`."""
        return f"{self.shards[place[0]]}@{place[1]}"

    def encoded(self, place: Indices, identity: str) -> EncodedImage:  # noqa: ARG002 - a tar file does not know it
        """The bytes of an image; a ValueError where the shard is cut off or another one."""
        shard, offset, size = place.tolist()
        path = self.root / self.shards[shard]
        try:
            with path.open("rb") as file:
                data = os.pread(file.fileno(), BLOCK + size, offset - BLOCK)
        except OSError as error:
            raise ValueError(f"cannot read the shard {path}: {error.strerror}") from error
        header = data[:BLOCK]
        if header[_MAGIC] != b"ustar" or _octal(header[_SIZE]) != size or len(data) != BLOCK + size:
            raise ValueError(
                f"no image of {size:,} bytes lies at byte {offset:,} of {path}: the shard is damaged or cut off, or "
                f"{INDEX} is of other shards"
            )
        return EncodedImage(data[BLOCK:], f"{path}, member at byte {offset:,}")


class ShardWriter:
    """Writes samples to shards of a folder, then their index: a context manager.

    Needs the extra `qmargin[shards]`. The same samples give the same bytes.

    Args:
        folder: where the shards go; it must exist.
        names: of the identities, in the order of their labels.
        split: of all samples: "train", "validation" or "test".
        per_shard: samples of a shard, >= 1.

    Raises:
        ValueError: a count below 1, webdataset is not installed; on leaving, no sample or a disk that is full.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with ShardWriter(Path(folder), ("al", "bo"), "train") as writer:
        ...         writer.write(b"first image", "jpg", 1)
        ...         writer.write(b"second image", "jpg", 0)
        ...     samples = read_shards(Path(folder))
        ...     list(samples.rows()), samples.encoded(1).content
        ([('000000.tar@1536', 'bo', 'train'), ('000000.tar@3584', 'al', 'train')], b'second image')

    Sibling: `read_shards`.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], split: str, per_shard: int = 10_000) -> None:
        check_counts("ShardWriter", 1, per_shard=per_shard)
        self._library = webdataset()
        self.folder = folder
        self.names = names
        self.split = split
        self.per_shard = per_shard
        self._count = 0
        self._shards: list[str] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if kind is None:
            write_index(self.folder, self._shards, self.names, self.split)

    def write(self, content: bytes, ending: str, label: int) -> None:
        """Append an image file, its ending and its label."""
        if self._count % self.per_shard == 0:
            self._open.close()
            self._shards.append(f"{len(self._shards):06d}.tar")
            path = self._open.enter_context(replacing(self.folder / self._shards[-1]))
            file = self._open.enter_context(path.open("wb"))
            self._tar = self._open.enter_context(self._library.TarWriter(file, encoder=False, compress=False, mtime=0))
        self._tar.write({"__key__": f"{self._count:09d}", ending: content, LABEL: str(label).encode()})
        self._count += 1


def write_index(folder: Path, shards: Sequence[str], names: tuple[str, ...], split: str) -> None:
    """Write the index of some shards of a folder, as they were written."""
    places, labels = scan_shards([folder / shard for shard in shards])
    write_arrays(
        folder / INDEX,
        shards=np.array(shards),
        sizes=np.array([(folder / shard).stat().st_size for shard in shards]),
        places=places,
        labels=labels,
        names=np.array(names),
        split=np.array(split),
    )


def read_shards(folder: Path, split: str = "train") -> PackedSamples:
    """Open the tar shards of a folder, all files that end in `.tar`, for access in any order.

    With an index the identities have the names and the split that it says; without one, every header is read, and an
    identity's name is its label in eight digits.

    Args:
        folder: the shards, and their index if there is one.
        split: of all samples, where there is no index: "train", "validation" or "test".

    Returns:
        The samples in the order of the shards' names and of their members.

    Raises:
        ValueError: no folder or no shard in it; an index that is damaged or of other shards; without one, a shard that
            is no tar file or is cut off, a sample without exactly one image and one label.

    Siblings: `ShardWriter`; `read_face_records`.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give the folder of the .tar shards")
    shards = tuple(sorted(path.name for path in folder.glob("*.tar")))
    if not shards:
        raise ValueError(f"no file in {folder} ends in .tar: give the folder of the shards")
    store = TarImages(folder, shards, tuple((folder / shard).stat().st_size for shard in shards))
    if (folder / INDEX).exists():
        return _indexed(store, folder / INDEX)
    places, labels = scan_shards([folder / shard for shard in shards])
    found, codes = np.unique(labels, return_inverse=True)
    names = tuple(identity_name(label) for label in found.tolist())
    return PackedSamples(store, places, _people(names, codes.astype(np.int32), split))


def _indexed(store: TarImages, path: Path) -> PackedSamples:
    columns = ("shards", "sizes", "places", "labels", "names", "split")
    shards, sizes, places, labels, names, split = read_arrays(path, *columns, what="an index of shards")
    if tuple(shards.tolist()) != store.shards or tuple(sizes.tolist()) != store.sizes:
        listed = dict(zip(shards.tolist(), sizes.tolist(), strict=False))
        there = dict(zip(store.shards, store.sizes, strict=True))
        other = sorted(name for name in {*listed, *there} if listed.get(name) != there.get(name))
        raise ValueError(
            f"{path} is of other shards than lie beside it: {first_few(other)}; copy them again, or remove the index "
            "to have the shards read without it"
        )
    people = Identities.sorted(
        tuple(names.tolist()), labels.astype(np.int32), [SPLITS.index(split.item())] * len(names)
    )
    return PackedSamples(store, places, people.take(np.arange(len(places))))  # of some identities nothing may be left


def _people(names: tuple[str, ...], codes: NDArray[np.int32], split: str) -> Identities:
    return Identities(names, codes, np.full(len(names), SPLITS.index(split), np.uint8))


def scan_shards(shards: Sequence[Path]) -> tuple[Indices, Indices]:
    """Places (samples, 3) and labels (samples,) of some shards, from the headers of their members.

    Raises:
        ValueError: as `read_shards` without an index.
    """
    places: list[tuple[int, int, int]] = []
    labels: list[int] = []
    for number, shard in enumerate(shards):
        for image, label in _samples(shard):
            places.append((number, *image))
            labels.append(label)
    if not places:
        raise ValueError(f"no sample is in {first_few([str(shard) for shard in shards])}")
    return np.array(places, np.int64), np.array(labels, np.int64)


def _samples(shard: Path) -> Iterator[tuple[tuple[int, int], int]]:
    """(offset, size) of the image, and the label, of each sample of a shard."""
    for key, members in groupby(_members(shard), key=lambda member: member.key):
        parts = list(members)
        images = [member.place for member in parts if member.ending.lower() in IMAGES]
        labels = [member.label for member in parts if member.ending == LABEL]
        if len(images) != 1 or len(labels) != 1 or labels[0] is None:
            raise ValueError(
                f"the sample {key!r} of {shard} has {len(images)} images and the labels {labels}: it needs one image "
                f"({', '.join(IMAGES)}) and one member .{LABEL} that holds a whole number >= 0"
            )
        yield images[0], labels[0]


@dataclass(frozen=True)
class _Member:
    key: str
    ending: str
    place: tuple[int, int]  # offset and size of its content
    label: int | None  # of a member that is one


def _members(shard: Path) -> Iterator[_Member]:
    """The files of a shard; a ValueError where it is not whole."""
    try:
        with tarfile.open(shard, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # or it would remember millions
                if info.isfile():
                    folder, _, base = info.name.rpartition("/")
                    stem, _, ending = base.partition(".")
                    label = _label(tar, info) if ending == LABEL else None
                    yield _Member(f"{folder}/{stem}" if folder else stem, ending, (info.offset_data, info.size), label)
            end = tar.offset
        with shard.open("rb") as file:
            if os.pread(file.fileno(), BLOCK, end) != bytes(BLOCK):
                raise ValueError(f"the shard {shard} is cut off: it does not end as a tar file does")
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"cannot read the shard {shard}: {error}") from error


def _label(tar: tarfile.TarFile, info: tarfile.TarInfo) -> int | None:
    file = tar.extractfile(info)
    text = file.read(20).strip() if file is not None else b""
    return int(text) if text.isdigit() and int(text) < 1 << 31 else None


def _octal(field: bytes) -> int:
    """A number of a member's header: octal text, or binary where it is too large for that; -1 if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() else -1
