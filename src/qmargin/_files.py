"""Files that are either whole or not there: written beside their place, flushed to the disk, then renamed."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it is fsynced and renamed to `path`.

    On any error the temporary file is removed and what stood at `path` before is untouched. The folder must exist.

    Raises:
        ValueError: the folder cannot be written (missing, read-only, full); the message names it and the reason.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error
    try:
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make their file private
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_left(path: Path) -> None:
    """Remove what processes that were killed within `replacing(path)` have left; nobody may be writing `path` now."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if left.name.removeprefix(f".{path.name}.").removesuffix(".tmp").isdecimal():
            left.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which must not exist; on success it is renamed to `path`.

    On any error, or Ctrl-C, the temporary folder is removed with all that was written to it. The files in it are
    flushed by whoever writes them.

    Raises:
        ValueError: `path` exists, or the folder cannot be written (its parent is missing, the disk is full).
    """
    check_new(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        _rename_folder(temporary, path)
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new(path: Path) -> None:
    """Refuse a folder to write that is there."""
    if path.exists():
        raise ValueError(f"{path} exists: give a folder that does not, or remove it first")


def publish_folder(temporary: Path, path: Path) -> None:
    """Flush a folder and all in it to the disk, then rename it to `path`, which must not exist.

    Raises:
        ValueError: the disk fails; `temporary` keeps its name.
    """
    try:
        for inside in sorted(temporary.rglob("*"), reverse=True):
            _sync(inside)
        _rename_folder(temporary, path)
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error


def _rename_folder(temporary: Path, path: Path) -> None:
    _sync(temporary)
    temporary.rename(path)
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_json(record: object) -> str:
    """Dicts, lists and numbers as JSON text: arrays as lists; infinities and nan as Python's json writes them."""
    return json.dumps(record, indent=2, default=_plain) + "\n"


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays to `path` as .npz, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str, what: str) -> list[NDArray[Any]]:
    """The named arrays of an .npz file that `write_arrays` wrote; nothing is unpickled.

    Raises:
        ValueError: the file is missing, damaged, or holds something else; the message says `what` was looked for.
    """
    if not path.is_file():
        raise ValueError(f"no {what} at {path}: run qmargin evaluate on that run first")
    try:
        # opened here, because numpy leaves the file open when it is no archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return [archive[name] for name in names]
    except (BadZipFile, OSError, EOFError, KeyError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} does not hold {what} ({error}); run qmargin evaluate again") from error


def make_folder(path: Path) -> Path:
    """Create `path` and its parents where missing; a ValueError that names it where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(cannot_write(path, error)) from error
    return path


def cannot_write(path: Path, error: OSError) -> str:
    """What to tell a user whose file or folder cannot be written."""
    reason = error.strerror or str(error)
    return f"cannot write {path}: {reason}; nothing was lost, give a folder with room that you may write to"


def _plain(value: object) -> object:
    assert isinstance(value, np.ndarray), type(value)
    return value.tolist()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
