"""Landmarks of faces as a CSV file: five points for each path."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Landmarks = Mapping[str, NDArray[np.float64]]


def read_landmarks(path: Path) -> Landmarks:
    """Five points (5, 2), in pixels, for each path of a CSV file.

    Raises:
        ValueError: it cannot be read, a column is missing, a number is none or not finite, a path is listed twice.
    """
    columns = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
    found: dict[str, NDArray[np.float64]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in ("path", *columns) if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}, line 1: no column {', '.join(missing)}; landmarks are path, x1, y1, ..., y5")
            for row in reader:
                points = _points([row[column] for column in columns])
                if points is None or row["path"] in found:
                    fault = "is listed twice" if row["path"] in found else "has not ten finite numbers"
                    raise ValueError(f"{path}, line {reader.line_num}: {row['path']!r} {fault}")
                found[row["path"]] = points
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the landmarks {path}: {error}") from error
    return found


def _points(fields: list[str]) -> NDArray[np.float64] | None:
    try:
        points = np.array([float(field) for field in fields]).reshape(5, 2)
    except (TypeError, ValueError):
        return None
    return points if np.isfinite(points).all() else None


def unused_landmarks(points: Landmarks, table: Path, paths: Iterable[str], source: Path) -> int:
    """Number of rows that are of no sample.

    Args:
        points: of each path, from `read_landmarks`.
        table: the file they are from.
        paths: of the samples.
        source: where those are from.

    Raises:
        ValueError: all are.
    """
    used, other = 0, ""
    for path in paths:
        used += path in points
        other = other or path
    if not used:
        one = repr(next(iter(points))) if points else "no row"
        raise ValueError(
            f"no path of the landmarks {table} is one of {source}: they have {one}, the source {other!r}; write the "
            "paths as the source has them"
        )
    return len(points) - used
