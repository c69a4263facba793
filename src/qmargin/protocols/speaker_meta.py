"""Tables about speakers, as VoxCeleb's `vox1_meta.csv`: a column of them, as gender, makes the strata of the bootstrap.

A header line, then a line a speaker; tabs or commas between the fields. The first column holds the speaker's id.
"""

import csv
from collections.abc import Sequence
from pathlib import Path


def read_strata(path: Path, column: str, speakers: Sequence[str]) -> dict[int, str]:
    r"""Stratum of each speaker, from one column of a table.

    Args:
        path: of the table.
        column: name in its header, in any case.
        speakers: names by number, of `speaker_names`; speakers of the table beyond them are ignored.

    Returns:
        Number of the speaker -> value of the column.

    Raises:
        ValueError: no such file, no such column, a line with other than the header's fields or a speaker that comes
            twice (with the line number), a speaker without a line (the first is named, all are counted).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "meta.csv")
        ...     _ = path.write_text("ID\tGender\nid10001\tm\nid10002\tf\n")
        ...     read_strata(path, "gender", ["id10001", "id10002"])
        {0: 'm', 1: 'f'}
    """
    table = _read(path, column)
    lost = [name for name in speakers if name not in table]
    if lost:
        raise ValueError(f"{path} has no line of speaker {lost[0]!r} ({len(lost)} of {len(speakers)} have none)")
    return {number: table[name] for number, name in enumerate(speakers)}


def _read(path: Path, column: str) -> dict[str, str]:
    """Speaker id -> value of the column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter="\t" if "\t" in first else ","))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table in UTF-8: {error}") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if column.strip().lower() not in header[1:]:
        raise ValueError(f"{path}, line 1: no column {column!r} after the speaker's, got {', '.join(header) or 'none'}")
    place, table = header.index(column.strip().lower()), dict[str, str]()
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(header):
            raise ValueError(f"{path}, line {line}: {len(row)} fields, the header has {len(header)}")
        name = row[0].strip()
        if name in table:
            raise ValueError(f"{path}, line {line}: speaker {name!r} stands there a second time")
        table[name] = row[place].strip()
    return table
