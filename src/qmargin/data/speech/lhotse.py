"""lhotse manifests: recordings and supervisions as JSON lines, plain or .gz. lhotse itself is not needed."""

from pathlib import Path

from qmargin.data.speech.lines import Rows, json_lines
from qmargin.data.speech.utterances import Utterances


def read_lhotse(recordings: Path, supervisions: Path, split: str) -> Utterances:
    """Read the utterances of a pair of lhotse manifests: each supervision is one.

    Args:
        recordings: `*_recordings*.jsonl[.gz]`; each recording must be one file on the disk.
        supervisions: `*_supervisions*.jsonl[.gz]`, with the speakers.
        split: split of all its utterances: "train", "validation" or "test".

    Returns:
        The utterances, in the order of the supervisions; those that span their whole recording are read to its end,
        whatever the rounding of their duration.

    Raises:
        ValueError: naming file and line: no such object, a recording from a command or of several files, a supervision
            of an unknown recording or without a speaker, audio that is not there.

    Sibling: `qmargin.data.speech.kaldi.read_kaldi`.
    """
    files: dict[str, tuple[str, float]] = {}
    for number, row in json_lines(recordings, id=str, sources=list, duration=(int, float)):
        if row["id"] in files:
            raise ValueError(f"{recordings}, line {number}: the recording {row['id']!r} is there twice")
        files[str(row["id"])] = (_file(row["sources"], f"{recordings}, line {number}"), _number(row["duration"]))
    rows = Rows(supervisions, Path.cwd())
    fields: dict[str, type | tuple[type, ...]] = {
        "id": str,
        "recording_id": str,
        "speaker": str,
        "start": (int, float),
        "duration": (int, float),
    }
    for number, row in json_lines(supervisions, **fields):
        recording = str(row["recording_id"])
        if recording not in files:
            raise ValueError(f"{supervisions}, line {number}: no recording {recording!r} in {recordings}")
        file, seconds = files[recording]
        start = _number(row["start"])
        end = start + _number(row["duration"])
        rows.add(number, str(row["id"]), str(row["speaker"]), split, file)
        rows.spans.append((start, min(end, seconds)))
    return rows.utterances()


def _file(sources: object, where: str) -> str:
    match sources:
        case [{"type": "file", "source": str(path)}]:
            return path
        case _:
            raise ValueError(f"{where}: a recording must be one file on the disk, got the sources {sources!r}")


def _number(value: object) -> float:
    assert isinstance(value, int | float), "json_lines has seen to it"
    return float(value)
