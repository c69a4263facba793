"""Image folders, `root/identity/image.jpg`: the folder's name is the identity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qmargin.data._checks import first_few
from qmargin.data._table_reader import Columns
from qmargin.data.columns import TextColumn
from qmargin.data.manifest import Manifest, SampleError
from qmargin.data.prepared import MANIFEST, beside_images, listed_images, visible

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")  # in any case; what decode_image reads


def read_image_folder(root: Path, split: str) -> Manifest:
    """Read the samples of a folder of identity folders, sorted by identity and file name.

    Names that begin with a dot are skipped, and the files that `qmargin prepare --to folder` wrote beside the
    identities (prepared.json names them); everything else must be in its place, and of such a folder the images those
    that its manifest lists.

    Args:
        root: folder that holds one folder for each identity, and nothing else.
        split: split of all its samples: "train", "validation" or "test".

    Returns:
        The manifest, paths `identity/file`.

    Raises:
        ValueError: no such folder, no identities, a file beside the identity folders, an identity without an image,
            something in an identity's folder that is no image by its extension (`IMAGE_EXTENSIONS`), a name that is
            not UTF-8, or other images than the manifest of a prepared folder lists.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("bo", "al"):
        ...         (Path(folder) / name).mkdir()
        ...         (Path(folder) / name / "1.jpg").touch()
        ...     read_image_folder(Path(folder), split="train").paths
        <2 rows: 'al/1.jpg', 'bo/1.jpg'>

    Siblings: `read_manifest` for images that are laid out otherwise; `ImageFolders` for train and test together.
    """
    if not root.is_dir():
        raise ValueError(f"no folder {root}: give the folder that holds one folder of images for each identity")
    prepared = beside_images(root)
    entries = [entry for entry in visible(root) if entry.name not in prepared]
    stray = [entry.name for entry in entries if not entry.is_dir()]
    if stray:
        raise ValueError(
            f"{root} must hold one folder for each identity and nothing else: {len(stray)} files are beside them "
            f"({first_few(stray)}); move them into their identity's folder or away"
        )
    if not entries:
        raise ValueError(f"{root} holds no identity: it must hold one folder of images for each")
    columns = Columns()
    for entry in entries:  # one after the other: millions of rows are never Python objects together
        paths = _images(root, entry.name)
        try:
            columns.add_lawful(paths, [entry.name] * len(paths), [split] * len(paths))
        except SampleError as error:
            raise ValueError(f"{str(root / entry.name)!r}: {error.fault}") from error
    _check_listing(root, columns.paths())
    return Manifest.of_columns(root, columns.paths(), columns.people())


def _images(root: Path, identity: str) -> list[str]:
    entries = visible(root / identity)
    names = [entry.name for entry in entries]
    wrong = [entry.name for entry in entries if not (entry.name.lower().endswith(IMAGE_EXTENSIONS) and entry.is_file())]
    if wrong:
        raise ValueError(
            f"{root / identity} must hold images only, of the extensions {' '.join(IMAGE_EXTENSIONS)}: "
            f"{len(wrong)} entries are not ({first_few(wrong)}); move them away"
        )
    if not names:
        raise ValueError(f"the identity {identity!r} has no image in {root / identity}: add some or remove the folder")
    return [f"{identity}/{name}" for name in names]


def _check_listing(root: Path, found: TextColumn) -> None:
    """Refuse a folder that `qmargin prepare` wrote in which other images lie than its manifest lists."""
    listed = listed_images(root)
    changed = [] if listed is None else _unlike(listed.paths, found)
    if changed:
        raise ValueError(
            f"{len(changed):,} images of {root} are not as its {MANIFEST} lists them, added or gone: "
            f"{first_few(changed)}; copy or prepare the set again (to use it as it is, remove "
            f"{', '.join(sorted(beside_images(root)))})"
        )


def _unlike(listed: Sequence[str], found: Sequence[str]) -> list[str]:
    """Paths that only one of two columns has; hashes are compared, eight bytes for each."""
    one, other = (np.fromiter(map(hash, column), np.int64, len(column)) for column in (listed, found))
    alone = set(np.setxor1d(one, other).tolist())
    return [path for column in (listed, found) for path in column if hash(path) in alone] if alone else []
