"""The checksums of a prepared set, `prepared.json`: written by `prepare_faces`, compared when the set is opened."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from qmargin._files import to_json, write_text
from qmargin.data._checks import first_few
from qmargin.data.manifest import Manifest
from qmargin.data.tables import read_manifest

RECORD = "prepared.json"
MANIFEST = "manifest.csv"
SMALL = 1 << 24  # bytes of files whose checksum is compared at every opening
FORMAT = "qmargin prepared 1"


def write_record(folder: Path, counts: dict[str, object]) -> None:
    """Write size and SHA-256 of every file that lies in a folder, beside some counts."""
    files = {path.name: _entry(path) for path in sorted(folder.iterdir()) if path.is_file()}
    write_text(folder / RECORD, to_json({"format": FORMAT, **counts, "files": files}))


def check_prepared(folder: Path, *, contents: bool = False) -> bool:
    """Compare a prepared set with its record: the size of every file, and the checksum of those up to 16 MiB.

    Args:
        folder: of the set.
        contents: compare every checksum, and those of a folder's images: as long as reading the set.

    Returns:
        Whether there is a record; a set that `qmargin prepare` did not write has none.

    Raises:
        ValueError: the record is damaged, or a file is missing or not as it was written, or more images are there.
    """
    if not (folder / RECORD).is_file():
        return False
    kind, files = _read_record(folder)
    changed = [name for name, entry in files.items() if not _same(folder / name, entry, contents=contents)]
    if contents and kind == "folder" and MANIFEST not in changed:  # it lists what its images must be
        changed += _changed_images(folder)
        changed += _unlisted(folder)
    if changed:
        raise ValueError(
            f"{len(changed):,} files of {folder} are not as they were written: {first_few(changed)}; copy or prepare "
            f"the set again (to use it as it is, remove {RECORD})"
        )
    return True


def beside_images(folder: Path) -> frozenset[str]:
    """Names of the files that `qmargin prepare --to folder` wrote beside the folders of images; none elsewhere.

    Raises:
        ValueError: the record is damaged.
    """
    if not (folder / RECORD).is_file():
        return frozenset()
    kind, files = _read_record(folder)
    return frozenset({RECORD, *files} if kind == "folder" else ())


def listed_images(folder: Path) -> Manifest | None:
    """What the manifest lists of a folder that `qmargin prepare --to folder` wrote; None of any other folder.

    Raises:
        ValueError: the record or the manifest is damaged.
    """
    return read_manifest(folder / MANIFEST, check_files=False) if MANIFEST in beside_images(folder) else None


def _read_record(folder: Path) -> tuple[object, dict[str, tuple[int, str]]]:
    """What was prepared, and size and checksum of each file."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in record["files"].items()}
        kind, known = record.get("kind"), record["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); prepare the set again") from error
    if not known:
        raise ValueError(f"{path} is of the format {record['format']!r}, this version reads {FORMAT!r}")
    return kind, files


def _same(path: Path, entry: tuple[int, str], *, contents: bool) -> bool:
    size, digest = entry
    if not path.is_file() or path.stat().st_size != size:
        return False
    return (size > SMALL and not contents) or checksum(path) == digest


def _changed_images(folder: Path) -> list[str]:
    def rows() -> Iterator[dict[str, str]]:
        with (folder / MANIFEST).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)

    listed = ((row["path"], (int(row["bytes"]), row["sha256"])) for row in rows())
    return [name for name, entry in listed if not _same(folder / name, entry, contents=True)]


def _unlisted(folder: Path) -> list[str]:
    """Folders of identities that hold more than the manifest lists: what is missing is among the changed images."""
    listed = Counter(path.rpartition("/")[0] for path in read_manifest(folder / MANIFEST, check_files=False).paths)
    found = {entry.name: len(visible(folder / entry.name)) for entry in visible(folder) if entry.is_dir()}
    more = {name: count - listed[name] for name, count in found.items() if count > listed[name]}
    return [f"{name} ({count:,} more than {MANIFEST} lists)" for name, count in more.items()]


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name; names that begin with a dot are skipped."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _entry(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def checksum(path: Path, note: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of a file; `note` is told the bytes of each chunk."""
    hasher = sha256()
    with path.open("rb") as file:
        while chunk := file.read(SMALL):
            hasher.update(chunk)
            note(len(chunk))
    return hasher.hexdigest()
