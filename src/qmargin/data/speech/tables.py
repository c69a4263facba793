"""A CSV file of recordings: path, speaker and split; each split of the file is given its use by name."""

import csv
from collections.abc import Mapping
from pathlib import Path

from qmargin.data.speech.lines import Rows, numbered_lines
from qmargin.data.speech.utterances import Utterances


def read_speech_table(path: Path, splits: Mapping[str, str | None], speaker_column: str = "speaker") -> Utterances:
    """Read utterances from a CSV file (UTF-8, comma, header line) with the columns path, split and one of speakers.

    Args:
        path: the CSV file; audio paths are relative to its folder.
        splits: split in the file -> "train", "validation", "test", or None to leave its rows out.
        speaker_column: header of the column of speakers.

    Returns:
        The utterances that are not left out, in the order of the file.

    Raises:
        ValueError: naming the line: a missing column, a row of another length, an absolute path, a split that `splits`
            does not name, a row that breaks a law of `Manifest`, audio that is not there.

    Sibling: `qmargin.data.read_manifest`, for images.
    """
    lines = numbered_lines(path)
    _, header = next(lines)
    columns = next(csv.reader([header]))
    missing = [name for name in ("path", speaker_column, "split") if columns.count(name) != 1]
    if missing:
        raise ValueError(f"{path}, line 1: there must be one column {missing[0]}, there are {', '.join(columns)}")
    rows = Rows(path, path.parent)
    for number, line in lines:
        (values,) = csv.reader([line])
        if len(values) != len(columns):
            raise ValueError(f"{path}, line {number}: the header has {len(columns)} fields, this line {len(values)}")
        row = dict(zip(columns, values, strict=True))
        if row["split"] not in splits:
            raise ValueError(
                f"{path}, line {number}: the split {row['split']!r} is not spoken for; say whether it is to train, to "
                f"test, or left out (known: {', '.join(splits)})"
            )
        split = splits[row["split"]]
        if split is not None:
            _refuse_absolute(row["path"], f"{path}, line {number}")
            rows.add(number, row["path"], row[speaker_column], split, row["path"])
    if not rows.ids:
        raise ValueError(f"{path}: no row is in a split that is used ({', '.join(splits)})")
    return rows.utterances()


def _refuse_absolute(name: str, where: str) -> None:
    if Path(name).is_absolute():
        raise ValueError(
            f"{where}: the path {name!r} is absolute, and paths are relative to the table's folder: put the table "
            "beside the audio, or list absolute paths in a wav.scp (--data.source.kind KaldiFolders)"
        )
