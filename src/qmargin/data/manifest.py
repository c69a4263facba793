"""The one table of samples: path, identity and split of every image. All later stages read it.

Laws, checked on construction: paths are relative to the root, stay inside it and are listed once; an identity stands
in one split only, so that no one is both trained on and judged; there is at least one sample.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import BLOCK, Indices, TextColumn
from qmargin.data.decode import EncodedImage, ImageFormat
from qmargin.data.identities import SPLITS, Identities, OfPeople

_UNWRITABLE = re.compile("[\0\r\n\ud800-\udfff]")  # surrogates stand for bytes of a file name that are not UTF-8


@dataclass(frozen=True)
class Manifest(OfPeople):
    """Samples and their identities, in a fixed order; kept as arrays, without a Python object for each sample.

    Args:
        root: folder that paths are relative to.
        paths: image of each sample, relative to `root`, with forward slashes.
        identities: identity of each sample; never empty.
        split: "train", "validation" or "test" for each sample.

    Raises:
        ValueError: a law of the module's first lines is broken; the message names the sample.

    Example:
        >>> manifest = Manifest(Path("faces"), ("bo/1.png", "al/1.png"), ("bo", "al"), ("train", "train"))
        >>> manifest.labels.tolist(), manifest.names
        ([1, 0], ('al', 'bo'))

    Siblings: `read_manifest`, `read_image_folder` and `read_orl` make one from files; `PackedSamples` is the table of
    images that lie in other files.
    """

    root: Path
    paths: Sequence[str]
    identities: Sequence[str]
    split: Sequence[str]
    people: Identities = field(init=False, repr=False, compare=False)
    _paths: TextColumn = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a table that breaks a law, and put its columns into arrays."""
        counts = (len(self.paths), len(self.identities), len(self.split))
        if min(counts) != max(counts) or not self.paths:
            raise ValueError(
                "a manifest needs at least one sample, and a path, an identity and a split for each: got "
                f"{counts[0]} paths, {counts[1]} identities and {counts[2]} splits"
            )
        check_samples(self.paths, self.identities, self.split)
        self._keep(TextColumn.of(self.paths), Identities.of(self.identities, self.split))

    @classmethod
    def of_columns(cls, root: Path, paths: TextColumn, people: Identities) -> "Manifest":
        """A manifest of columns that are known to be lawful: nothing is checked."""
        manifest = cls.__new__(cls)
        object.__setattr__(manifest, "root", root)
        manifest._keep(paths, people)  # noqa: SLF001 - our own
        return manifest

    def _keep(self, paths: TextColumn, people: Identities) -> None:
        columns = {"paths": paths, "identities": people.of_samples, "split": people.splits}
        for name, value in {**columns, "people": people, "_paths": paths}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows, in order; the root does not enter, so a moved data set keeps its digest."""
        hasher = sha256()
        for start in range(0, len(self), BLOCK):
            block = (column.texts(start) for column in (self._paths, self.people.of_samples, self.people.splits))
            rows = [f"{path}\0{name}\0{part}\n" for path, name, part in zip(*block, strict=True)]
            hasher.update("".join(rows).encode())
        return hasher.hexdigest()

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Path, identity and split of each sample, in order."""
        return zip(self.paths, self.identities, self.split, strict=True)

    def path(self, index: int) -> str:
        """Path of a sample, relative to the root."""
        return self.paths[index]

    def stem(self, index: int) -> str:
        """File name of a sample, without its ending."""
        return PurePosixPath(self.paths[index]).stem

    def encoded(self, index: int) -> EncodedImage:
        """The bytes of a sample's image file; a ValueError where it cannot be read."""
        path = self.root / self.paths[index]
        try:
            return EncodedImage(path.read_bytes(), str(path))
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from error

    def pixels(self, index: int, image: ImageFormat) -> NDArray[np.uint8]:
        """The image of a sample, (height, width, channels); errors are those of `decode_image`."""
        return image.decode(self.root / self.paths[index])

    def take(self, rows: Indices) -> "Manifest":
        """Some samples, in the order given; labels are counted anew among them."""
        return Manifest.of_columns(self.root, self._paths.take(rows), self.people.take(rows))

    def subset(self, split: str) -> "Manifest":
        """The samples of one split, in order; labels are counted anew among them.

        Args:
            split: "train", "validation" or "test".

        Raises:
            ValueError: an unknown split, or one without samples.
        """
        return self.take(self.people.in_split(split))

    def hold_out(self, identities: int, seed: int) -> "Manifest":
        """Move some train identities, with all their samples, to the split "validation".

        Args:
            identities: how many, >= 1; at least 2 must remain to train on.
            seed: of the choice, >= 0; the same seed and train identities give the same choice.

        Returns:
            The same samples in the same order.

        Raises:
            ValueError: too few train identities, or validation identities are there already.
        """
        return Manifest.of_columns(self.root, self._paths, self.people.hold_out(identities, seed))


class SampleError(ValueError):
    """A sample that breaks a law of `Manifest`: its place in the table and what is wrong with it."""

    def __init__(self, index: int, fault: str) -> None:
        super().__init__(f"sample {index}: {fault}")
        self.index = index
        self.fault = fault


def check_samples(paths: Sequence[str], identities: Sequence[str], split: Sequence[str]) -> None:
    """Raise a `SampleError` for the first row that breaks a law."""
    seen: set[str] = set()
    home: dict[str, str] = {}  # split of each identity
    for index, (path, name, part) in enumerate(zip(paths, identities, split, strict=True)):
        fault = _path_fault(path)
        if path in seen:
            fault = f"the path {path!r} is listed twice: a sample is listed once, with one identity"
        elif name not in home:
            fault = fault or _identity_fault(name, part)
            home[name] = part
        elif home[name] != part:
            fault = (
                f"identity {name!r} is in the splits {home[name]!r} and {part!r}: splits must not share identities, "
                "or figures would be about people seen in training"
            )
        if fault:
            raise SampleError(index, fault)
        seen.add(path)


def _path_fault(path: str) -> str | None:
    framed = f"/{path}/"
    if not path:
        return "the path is empty"
    if "//" in framed or "/./" in framed or "/../" in framed:
        return f"the path {path!r} must be relative to the root and stay in it: no leading '/', no '.', '..' or '//'"
    if _UNWRITABLE.search(path):
        return f"the path {path!r} has a line break or is not UTF-8: rename the file"
    return None


def _identity_fault(name: str, part: str) -> str | None:
    if not name:
        return "the identity is empty"
    if _UNWRITABLE.search(name):
        return f"the identity {name!r} has a line break or is not UTF-8: rename it"
    if part not in SPLITS:
        return f"the split must be one of {', '.join(SPLITS)}, got {part!r}"
    return None
