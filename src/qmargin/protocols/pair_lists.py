"""Pairs of image files: a CSV file of one's own, and the official list of LFW with its folder of images."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from qmargin.metrics import file_order_folds
from qmargin.protocols.image_pairs import ImagePairs, check_pairs, file_sha256

COLUMNS = ("path_a", "path_b", "same")
FOLD = "fold"
Pair = tuple[str, str, bool, int]  # two paths, same, fold (NO_FOLD where the file has none)
NO_FOLD = -1
SHOWN = 3


def read_pairs_csv(path: Path, root: Path | None = None) -> ImagePairs:
    """Read a CSV file (UTF-8, comma) with the columns path_a, path_b, same (0 or 1) and, if you like, fold.

    Args:
        path: the file; other columns are ignored.
        root: folder that the paths are relative to; that of the file unless given.

    Returns:
        The pairs in the order of the file, with its folds (integers >= 0) or else ten in its order.

    Raises:
        ValueError: no such file, a missing column, a line that is wrong (with its number), images that are not there
            (with their number and the first few), fewer than 10 pairs, pairs of one kind only, a single fold.

    Sibling: `read_lfw_pairs`; `qmargin pack` turns either into a `.bin` set.
    """
    pairs = list(_csv_pairs(path))
    return _assemble(path, path.parent if root is None else root, pairs)


def read_lfw_pairs(path: Path, root: Path, suffix: str = ".jpg") -> ImagePairs:
    """Read LFW's `pairs.txt`: a line `folds n`, then for each fold n lines `name i j` and n lines `name i name j`.

    Image i of a name is `name/name_000i` + suffix below `root`. Fields are separated by tabs or spaces.

    Args:
        path: the list; the official one begins with `10 300`.
        root: the folder with one folder a name.
        suffix: ending of the image files, for example ".png" of aligned copies.

    Returns:
        The pairs in the order of the file, with its folds.

    Raises:
        ValueError: no such file, a line that is wrong (with its number), more or fewer lines than the first one says,
            images that are not there (with their number and the first few).

    Sibling: `read_pairs_csv`.
    """
    lines = _lines(path)
    folds, each = _lfw_header(path, lines)
    expected = folds * 2 * each
    if len(lines) - 1 != expected:
        raise ValueError(
            f"{path} has {len(lines) - 1:,} pairs, its first line announces {folds} x 2 x {each} = {expected:,}: is it "
            "cut?"
        )
    pairs = [_lfw_pair(path, number, line, each, suffix) for number, line in enumerate(lines[1:], 2)]
    return _assemble(path, root, pairs)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason}") from error


def _lfw_header(path: Path, lines: Sequence[str]) -> tuple[int, int]:
    numbers = lines[0].split()
    if len(numbers) != 2 or not all(_is_number(word) for word in numbers) or "0" in numbers:
        raise ValueError(
            f"{path}, line 1: the numbers of folds and of pairs of each kind must stand here, as `10 300`, got "
            f"{lines[0][:80]!r}"
        )
    return int(numbers[0]), int(numbers[1])


def _lfw_pair(path: Path, number: int, line: str, each: int, suffix: str) -> Pair:
    fold, place = divmod(number - 2, 2 * each)
    words, same = line.split(), place < each
    numbers = [words[place] for place in ((1, 2) if same else (1, 3))] if len(words) == (3 if same else 4) else []
    if not numbers or not all(map(_is_number, numbers)):
        wanted = "`name i j`, one person" if same else "`name i name j`, two people"
        raise ValueError(f"{path}, line {number}: fold {fold + 1} needs {wanted} here, got {line[:80]!r}")
    names = (words[0], words[0] if same else words[2])
    if not same and names[0] == names[1]:
        raise ValueError(f"{path}, line {number}: a pair of two people names {names[0]} twice")
    first, second = (f"{name}/{name}_{int(n):04d}{suffix}" for name, n in zip(names, numbers, strict=True))
    return first, second, same, fold


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def _csv_pairs(path: Path) -> Iterator[Pair]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            missing = [column for column in COLUMNS if column not in columns]
            if missing or len(set(columns)) < len(columns):
                raise ValueError(
                    f"{path}, line 1: the columns must be {', '.join(COLUMNS)} and, if you like, {FOLD}, each once; "
                    f"got {', '.join(columns) or 'none'}"
                )
            for row in reader:
                yield _csv_pair(path, reader.line_num, row)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _csv_pair(path: Path, line: int, row: dict[str, str]) -> Pair:
    if None in row or None in row.values():
        raise ValueError(f"{path}, line {line}: it has another number of fields than the header")
    first, second, same = (row[column].strip() for column in COLUMNS)
    if not first or not second:
        raise ValueError(f"{path}, line {line}: a path is empty")
    if same not in ("0", "1"):
        raise ValueError(f"{path}, line {line}: same must be 1 (one person) or 0 (two), got {same!r}")
    fold = row.get(FOLD, str(NO_FOLD)).strip()
    if FOLD in row and not _is_number(fold):
        raise ValueError(f"{path}, line {line}: fold must be an integer >= 0, got {fold!r}")
    return first, second, same == "1", int(fold)


def _assemble(path: Path, root: Path, pairs: Sequence[Pair]) -> ImagePairs:
    same = np.array([pair[2] for pair in pairs], dtype=bool)
    check_pairs(path, same)
    folds = np.array([pair[3] for pair in pairs], dtype=np.int64)
    if folds[0] == NO_FOLD:
        folds = file_order_folds(len(pairs))
    if folds.min() == folds.max():
        raise ValueError(f"{path} has one fold, {folds[0]}: the threshold is chosen on the others, so give two or more")
    places: dict[str, int] = {}
    sides = [[places.setdefault(name, len(places)) for name in pair[:2]] for pair in pairs]
    _check_files(path, root, places)
    images = [root / name for name in places]
    return ImagePairs(path.stem, file_sha256(path), images, np.array(sides, dtype=np.int64), same, folds)


def _check_files(path: Path, root: Path, names: Iterable[str]) -> None:
    wanted = list(names)
    missing = [name for name in wanted if not os.path.isfile(root / name)]  # noqa: PTH113 - fast
    if missing:
        rest = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise ValueError(
            f"{len(missing):,} of the {len(wanted):,} images listed in {path} are not below {root}: "
            f"{', '.join(missing[:SHOWN])}{rest}; is that the folder the paths are relative to?"
        )
