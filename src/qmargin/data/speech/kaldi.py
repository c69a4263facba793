"""Kaldi data directories: wav.scp, utt2spk and, where there is one, segments."""

import math
from collections.abc import Mapping
from pathlib import Path

from qmargin.data.speech.lines import Rows, numbered_lines
from qmargin.data.speech.utterances import Utterances

Entry = tuple[int, str]  # line, rest of it


def read_kaldi(folder: Path, split: str) -> Utterances:
    """Read a Kaldi data directory.

        wav.scp   recording-id  path            (utterance-id, where there are no segments)
        utt2spk   utterance-id  speaker-id
        segments  utterance-id  recording-id  first-second  last-second   (-1 for the recording's end)

    Relative paths in wav.scp are relative to the working directory, as Kaldi's tools have it. Nothing is executed:
    a command (`sph2pipe ... |`) is an error.

    Args:
        folder: the directory.
        split: split of all its utterances: "train", "validation" or "test".

    Returns:
        The utterances, in the order of segments or wav.scp.

    Raises:
        ValueError: naming file and line: a missing file, a pipe, an id twice, an utterance without a speaker or
            recording, times that are none, audio that is not there.

    Sibling: `qmargin.data.speech.lhotse.read_lhotse`.
    """
    recordings = _table(folder / "wav.scp", "recording-id path")
    speakers = _table(folder / "utt2spk", "utterance-id speaker-id")
    _refuse_commands(folder / "wav.scp", recordings)
    if not (folder / "segments").is_file():
        rows = Rows(folder / "wav.scp")
        for key, (line, path) in recordings.items():
            rows.add(line, key, _of(speakers, key, folder / "utt2spk", f"wav.scp, line {line}"), split, path)
        return rows.utterances()
    rows = Rows(folder / "segments")
    for key, (line, rest) in _table(folder / "segments", "utterance-id recording-id first last").items():
        where = f"segments, line {line}"
        recording, span = _segment(rest, f"{folder / 'segments'}, line {line}")
        path = _of(recordings, recording, folder / "wav.scp", where)
        rows.add(line, key, _of(speakers, key, folder / "utt2spk", where), split, path)
        rows.spans.append(span)
    return rows.utterances()


def read_recording_list(path: Path) -> dict[str, Path]:
    """Recordings by id, of lines `id path`, as in wav.scp.

    Relative paths are relative to the working directory.

    Raises:
        ValueError: no such list, or naming its line that is none or a command.
    """
    table = _table(path, "id path")
    _refuse_commands(path, table)
    return {key: Path(file) for key, (_, file) in table.items()}


def _refuse_commands(path: Path, table: Mapping[str, Entry]) -> None:
    for key, (line, file) in table.items():
        if file.endswith("|") or file.startswith("|"):
            raise ValueError(
                f"{path}, line {line}: {key!r} is a command, and commands are not run here; write the audio to files "
                "(wav-copy) and list those"
            )


def _table(path: Path, layout: str) -> dict[str, Entry]:
    """Key of each line -> its number and the rest."""
    table: dict[str, Entry] = {}
    for number, line in numbered_lines(path):
        key, *rest = line.split(maxsplit=1)
        if not rest:
            raise ValueError(f"{path}, line {number}: expected `{layout}`, got {line!r}")
        if key in table:
            raise ValueError(f"{path}, line {number}: {key!r} stands on line {table[key][0]} already")
        table[key] = (number, rest[0].strip())
    return table


def _of(table: Mapping[str, Entry], key: str, path: Path, where: str) -> str:
    if key not in table:
        raise ValueError(f"{path} has no line for {key!r}, which is in {where}")
    return table[key][1]


def _segment(rest: str, where: str) -> tuple[str, tuple[float, float]]:
    words = rest.split()
    try:
        recording, first, last = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError) as error:
        raise ValueError(f"{where}: expected `utterance-id recording-id first last`, seconds at the end") from error
    last_or_end = math.inf if last == -1.0 else last
    if len(words) > 3 or not 0.0 <= first < last_or_end or not math.isfinite(first + last):
        raise ValueError(
            f"{where}: expected seconds 0 <= first < last, or a last of -1 for the end, and nothing behind them, got "
            f"{rest!r}"
        )
    return recording, (first, last_or_end)
