"""Manifests as CSV files: read into arrays, with every fault named by line, and written atomically."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from qmargin._files import replacing
from qmargin.data._checks import first_few
from qmargin.data._table_reader import Layout, read_columns
from qmargin.data.identities import SPLITS
from qmargin.data.manifest import Manifest, SampleError
from qmargin.data.sample_table import SampleTable

if TYPE_CHECKING:
    from _csv import Reader

Row = tuple[int, str, str, str]  # line, path, identity, split


def read_manifest(
    path: Path,
    identity_column: str = "identity",
    path_column: str = "path",
    *,
    root: Path | None = None,
    default_split: str | None = None,
    check_files: bool = True,
) -> Manifest:
    """Read a manifest from a CSV file (UTF-8, comma, header line); other columns than the three are ignored.

    Rows are kept in arrays of 13 bytes a row beside the text of the paths.

    Args:
        path: the CSV file.
        identity_column: header of the column of identities.
        path_column: header of the column of image paths, relative to `root`.
        root: folder of the images; that of the CSV file unless given.
        default_split: split of every sample of a file that has no column `split`; a file that has one decides itself.
        check_files: look for every image now; otherwise one that is not there is an error when it is decoded.

    Returns:
        The manifest, samples in the order of the file.

    Raises:
        ValueError: no such file, not such a CSV, a missing column, a row that breaks a law of `Manifest` (with its
            line number), images that are not there (with their number and the first few).

    Sibling: `write_manifest`.
    """
    root = path.parent if root is None else root
    with _reading(path) as (header, rows):
        _check_header(path, header, identity_column, path_column, default_split)
        columns = read_columns(rows, Layout.of(header, path_column, identity_column, default_split))
    if columns is None:  # a law may be broken: row by row, to name the line
        manifest = _careful(path, root, identity_column, path_column, default_split)
    else:
        manifest = Manifest.of_columns(root, *columns)
    if check_files:
        _check_files(manifest, path)
    return manifest


def write_manifest(manifest: SampleTable, path: Path) -> None:
    """Write the columns path, identity and split to `path` as CSV, atomically; `read_manifest` gives the same samples.

    The root is not written: pass it as `root` when reading from another folder.

    Raises:
        ValueError: the folder cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from qmargin.data import read_orl
        >>> faces = read_orl()
        >>> with TemporaryDirectory() as folder:
        ...     write_manifest(faces, Path(folder) / "manifest.csv")
        ...     read_manifest(Path(folder) / "manifest.csv", root=faces.root) == faces
        True
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "identity", "split"))
        writer.writerows(manifest.rows())


def _check_files(manifest: Manifest, path: Path) -> None:
    missing = [name for name in manifest.paths if not os.path.isfile(f"{manifest.root}/{name}")]  # noqa: PTH113 - fast
    if missing:
        raise ValueError(
            f"{len(missing):,} of the {len(manifest):,} images listed in {path} are not below {manifest.root}: "
            f"{first_few(missing)}; is that the folder the paths are relative to?"
        )


def _careful(path: Path, root: Path, identity_column: str, path_column: str, default_split: str | None) -> Manifest:
    """The manifest, read row by row; every fault is named by its line."""
    rows = list(_rows(path, identity_column, path_column, default_split))
    if not rows:
        raise ValueError(f"{path} has a header but no sample: add a line for each image")
    lines, paths, identities, split = zip(*rows, strict=True)
    try:
        return Manifest(root, paths, identities, split)
    except SampleError as error:
        raise ValueError(f"{path}, line {lines[error.index]}: {error.fault}") from error


def _rows(path: Path, identity_column: str, path_column: str, default_split: str | None) -> Iterator[Row]:
    with _reading(path) as (header, reader):
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: the header has {len(header)} fields, this line has not; "
                    "quote a field that holds a comma"
                )
            row = dict(zip(header, fields, strict=True))
            split = row.get("split", default_split)
            assert split is not None, "_check_header lets no file without a split through"
            yield reader.line_num, row[path_column], intern(row[identity_column]), intern(split)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[list[str], "Reader"]]:
    """The header of a CSV file, and a reader of its rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            yield next(reader, []), reader
    except OSError as error:
        raise ValueError(f"cannot read the manifest {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _check_header(
    path: Path, columns: Sequence[str], identity_column: str, path_column: str, default_split: str | None
) -> None:
    needed = (path_column, identity_column, *(() if default_split else ("split",)))
    missing = [column for column in needed if column not in columns]
    if missing:
        hint = f"; without a column split, pass default_split, one of {', '.join(SPLITS)}" if "split" in missing else ""
        raise ValueError(
            f"{path}, line 1: no column {' and no column '.join(missing)}, there are {', '.join(columns) or 'none'}"
            f"{hint}"
        )
    twice = {column for column in columns if columns.count(column) > 1}
    if twice & {*needed, "split"}:
        raise ValueError(f"{path}, line 1: the column {min(twice)} is there twice; rename one of them")
