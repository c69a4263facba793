"""lhotse manifests: recordings and supervisions as JSON lines, plain or .gz. lhotse itself is not needed."""

import math
from collections.abc import Mapping
from pathlib import Path

from qmargin.data.speech.lines import Rows, json_lines
from qmargin.data.speech.utterances import Utterances


def read_lhotse(recordings: Path, supervisions: Path, split: str) -> Utterances:
    """Read the utterances of a pair of lhotse manifests: each supervision is one.

    Relative audio paths are relative to the working directory.

    Args:
        recordings: `*_recordings*.jsonl[.gz]`; each recording must be one file on the disk.
        supervisions: `*_supervisions*.jsonl[.gz]`, with the speakers.
        split: split of all its utterances: "train", "validation" or "test".

    Returns:
        The utterances, in the order of the supervisions; those that span their whole recording are read to its end,
        whatever the rounding of their duration.

    Raises:
        ValueError: naming file and line: no such object, a recording from a command or of several files, one that
            lhotse changes as it loads it (`transforms`) or of several channels, a supervision of an unknown recording,
            of another channel than 0 or without a speaker, audio that is not there.

    Siblings: `qmargin.data.speech.cuts.read_lhotse_cuts`, of cuts; `qmargin.data.speech.kaldi.read_kaldi`.
    """
    files: dict[str, tuple[str, float]] = {}
    for number, row in json_lines(recordings, id=str, sources=list, duration=(int, float)):
        where = f"{recordings}, line {number}"
        if row["id"] in files:
            raise ValueError(f"{where}: the recording {row['id']!r} is there twice")
        files[str(row["id"])] = audio_file(row, where)
        check_recording(row, where)
    rows = Rows(supervisions)
    fields: dict[str, type | tuple[type, ...]] = {
        "id": str,
        "recording_id": str,
        "speaker": str,
        "start": (int, float),
        "duration": (int, float),
    }
    for number, row in json_lines(supervisions, **fields):
        check_channel(str(row["id"]), row.get("channel", 0), 0, f"{supervisions}, line {number}")
        recording = str(row["recording_id"])
        if recording not in files:
            raise ValueError(f"{supervisions}, line {number}: no recording {recording!r} in {recordings}")
        file, seconds = files[recording]
        start = _number(row["start"])
        rows.add(number, str(row["id"]), str(row["speaker"]), split, file)
        rows.spans.append((start, end_or_infinity(start + _number(row["duration"]), seconds)))
    return rows.utterances()


def end_or_infinity(end: float, seconds: float) -> float:
    """An end in a recording of so many seconds, or infinity from its own end on: `seconds` may have been rounded down.

    Example:
        >>> end_or_infinity(1.0, 2.5), end_or_infinity(2.5, 2.5)
        (1.0, inf)
    """
    return end if end < seconds else math.inf


def audio_file(recording: object, where: str) -> tuple[str, float]:
    """Path and seconds of a recording as lhotse writes it; a ValueError where it is not one file on the disk."""
    match recording:
        case {"sources": [{"type": "file", "source": str(path)}], "duration": int() | float() as seconds}:
            return path, float(seconds)
        case {"sources": sources}:
            raise ValueError(f"{where}: a recording must be one file on the disk, got the sources {sources!r}")
        case _:
            raise ValueError(f"{where}: a recording must have sources and duration, got {recording!r}")


def check_recording(recording: Mapping[str, object], where: str) -> None:
    """Refuse a recording that is not what lies in its file: one that lhotse changes, or of several channels.

    Args:
        recording: as lhotse writes it.
        where: file and line, for the error.
    """
    if recording.get("transforms"):
        raise ValueError(
            f"{where}: lhotse changes the recording {recording.get('id')!r} as it loads it (transforms "
            f"{recording['transforms']}), and here audio is read as it lies: save what lhotse makes of it, for example "
            "by CutSet.to_shar, and read that (LhotseShar)"
        )
    sources = recording.get("sources")
    parts = [part for part in sources if isinstance(part, dict)] if isinstance(sources, list) else []
    for channels in (recording.get("channel_ids"), *(part.get("channels") for part in parts)):
        if isinstance(channels, list) and len(channels) > 1:
            raise ValueError(
                f"{where}: the recording {recording.get('id')!r} has the channels {channels}, and who speaks in which "
                "would be lost: write one file a channel, each a recording of its own"
            )


def check_channel(key: str, channel: object, own: object, where: str) -> None:
    """Refuse a supervision of another channel than the one that is read."""
    if channel not in (own, [own]):
        raise ValueError(
            f"{where}: the supervision {key!r} is of channel {channel}, read is channel {own}: write "
            "one file a channel, each a recording of its own"
        )


def _number(value: object) -> float:
    assert isinstance(value, int | float), "json_lines has seen to it"
    return float(value)
