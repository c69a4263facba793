"""lhotse cuts: parts of recordings with who speaks in them, as JSON lines. lhotse itself is not needed."""

from collections.abc import Iterator
from pathlib import Path

from qmargin.data.speech.lhotse import audio_file, check_channel, check_recording, end_or_infinity
from qmargin.data.speech.lines import Rows, json_lines
from qmargin.data.speech.utterances import Utterances

Said = tuple[str, str, float, float]  # id, speaker, first second and the one after the last, in the cut's audio


def read_lhotse_cuts(path: Path, split: str) -> Utterances:
    """Read the utterances of a lhotse cut manifest: each supervision of a cut is one.

    Relative audio paths are relative to the working directory.

    Args:
        path: `cuts*.jsonl[.gz]`, with the recordings in the cuts; each must be one file on the disk.
        split: split of all its utterances: "train", "validation" or "test".

    Returns:
        The utterances, in the order of the cuts; a cut without a supervision has none, what reaches beyond its cut is
        cut off, and what spans its recording is read to the end of that, whatever the rounding of its duration.

    Raises:
        ValueError: no supervision, and, naming the line: a cut of another kind than MonoCut or without a recording;
            what `read_lhotse` refuses of recordings and supervisions; audio that is not there.

    Siblings: `qmargin.data.speech.lhotse.read_lhotse`, of recordings and supervisions; `qmargin.data.speech.shar`.
    """
    rows = Rows(path)
    for line, cut in mono_cuts(path):
        file, seconds = audio_file(cut.get("recording"), f"{path}, line {line}")
        for key, speaker, first, last in said_in(cut, f"{path}, line {line}"):
            rows.add(line, key, speaker, split, file)
            rows.spans.append((first, end_or_infinity(last, seconds)))
    if not rows.ids:
        raise ValueError(f"{path}: no cut has a supervision, which would name its speaker: give cuts that have one")
    return rows.utterances()


def mono_cuts(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line and cut of a manifest; a ValueError names the line of another kind of cut, or of a changed recording."""
    for line, cut in json_lines(path, id=str, start=(int, float), duration=(int, float), supervisions=list):
        where = f"{path}, line {line}"
        if cut.get("type") != "MonoCut":
            raise ValueError(f"{where}: a cut must be a MonoCut, got {cut.get('type')!r}; write the mixed audio first")
        recording = cut.get("recording")
        if isinstance(recording, dict):
            check_recording(recording, where)
        yield line, cut


def said_in(cut: dict[str, object], where: str) -> list[Said]:
    """What is said in a cut, by its supervisions; what reaches beyond the cut is cut off."""
    assert isinstance(cut["supervisions"], list), "json_lines has seen to it"
    return [_said(supervision, cut, where) for supervision in cut["supervisions"]]


def _said(supervision: object, cut: dict[str, object], where: str) -> Said:
    match supervision:
        case {"id": str(key), "speaker": str(speaker), "start": int() | float() as start, "duration": length, **others}:
            check_channel(key, others.get("channel", 0), cut.get("channel", 0), where)
            begin, seconds, cut_start = (_number(value, where) for value in (start, length, cut["start"]))
            first = cut_start + max(begin, 0.0)
            return key, speaker, first, cut_start + min(begin + seconds, _number(cut["duration"], where))
        case _:
            raise ValueError(f"{where}: a supervision must have id, speaker, start and duration, got {supervision!r}")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected seconds, got {value!r}")
    return float(value)
