"""Text tables of utterances, a row a line: every fault is named by file and line."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qmargin.data.manifest import Manifest, SampleError
from qmargin.data.speech.relative import working_directory
from qmargin.data.speech.utterances import Utterances

UTF_8 = "utf-8-sig"  # UTF-8, with or without a byte order mark


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file (UTF-8, gzip by the ending .gz) with their numbers, blank ones left out.

    A byte order mark, as Excel writes it, is no part of the first line.

    Raises:
        ValueError: the file is missing, not UTF-8, not gzip, or has no line.
    """
    empty = True
    try:
        with gzip.open(path, "rt", encoding=UTF_8) if path.suffix == ".gz" else path.open(encoding=UTF_8) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    empty = False
                    yield number, line.rstrip("\r\n")
    except FileNotFoundError as error:
        raise ValueError(f"no file {path}") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if empty:
        raise ValueError(f"{path} has no line")


def json_lines(path: Path, **kinds: type | tuple[type, ...]) -> Iterator[tuple[int, dict[str, object]]]:
    """JSON objects, one a line, each with fields of these names and types; others are left alone.

    Raises:
        ValueError: naming the line that is no object, or lacks a field.
    """
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: it is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object with {', '.join(kinds)}")
        for name, kind in kinds.items():
            if not isinstance(row.get(name), kind) or isinstance(row[name], bool):  # True is an int
                wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
                raise ValueError(f"{path}, line {number}: expected {name} to be {wanted}, got {row.get(name)!r}")
        yield number, row


@dataclass
class Rows:
    """Utterances being collected from the lines of a file.

    Args:
        source: the file that is read, for errors.
        root: what audio files are relative to; None is the working directory.
    """

    source: Path
    root: Path | None = None
    lines: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    bytes_at: list[tuple[int, int]] = field(default_factory=list)

    def add(self, line: int, key: str, speaker: str, split: str, file: str) -> None:
        """One utterance."""
        for column, value in zip(
            (self.lines, self.ids, self.speakers, self.splits, self.files),
            (line, key, speaker, split, file),
            strict=True,
        ):
            column.append(value)  # type: ignore[attr-defined] # the lists are of the values' types

    def utterances(self) -> Utterances:
        """The table; a ValueError names the line that breaks a law of `Manifest`, and audio files that are missing."""
        root = Path.cwd() if self.root is None else self.root
        try:
            table = Manifest(root, tuple(self.ids), tuple(self.speakers), tuple(self.splits))
        except SampleError as error:
            raise ValueError(f"{self.source}, line {self.lines[error.index]}: {error.fault}") from error
        for line, file in zip(self.lines, self.files, strict=True):
            if not (root / file).is_file():
                advice = working_directory(file) if self.root is None else ""
                raise ValueError(f"{self.source}, line {line}: there is no audio file {root / file}{advice}")
        return Utterances(
            table,
            tuple(self.files),
            np.array(self.spans, dtype=np.float64) if self.spans else None,
            np.array(self.bytes_at, dtype=np.int64) if self.bytes_at else None,
        )
