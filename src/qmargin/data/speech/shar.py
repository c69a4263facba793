"""lhotse Shar: shards of cuts and, under the same number, of their recordings. lhotse itself is not needed."""

import tarfile
from pathlib import Path

from qmargin.data.speech.lhotse import check_channel, check_recording
from qmargin.data.speech.lines import Rows, json_lines
from qmargin.data.speech.utterances import Utterances, joined
from qmargin.data.speech.wav import AUDIO_EXTENSIONS

Place = tuple[int, int]  # offset and size in bytes


def read_shar(folder: Path, split: str) -> Utterances:
    """Read the utterances of a folder that `CutSet.to_shar(folder, fields={"recording": "flac"})` wrote.

        cuts.000000.jsonl.gz   a cut a line, with supervisions that name the speakers
        recording.000000.tar   its audio, a member CUT-ID.flac (.wav, .ogg, .opus) each

    With one shard, names have no number.

    Each supervision is an utterance. Tars are walked once, header by header; audio stays on the disk and is read where
    it lies. Features and other fields of a Shar are not used.

    Args:
        folder: of the shards.
        split: split of all its utterances: "train", "validation" or "test".

    Raises:
        ValueError: no shard, one without its recordings, a compressed or damaged tar, and, naming file and line: a cut
            of another kind than MonoCut, one whose recording is changed as it is loaded (`transforms`) or of several
            channels, one without audio in the tar, a supervision without a speaker or of another channel than its cut.

    Sibling: `qmargin.data.speech.lhotse.read_lhotse`, of manifests.
    """
    shards = sorted(file for file in folder.glob("cuts.*") if file.name.removesuffix(".gz").endswith(".jsonl"))
    if not shards:
        raise ValueError(f"{folder} holds no cuts.*.jsonl.gz: give the folder of a lhotse Shar")
    return joined([_read_shard(shard, split) for shard in shards])


def _read_shard(cuts: Path, split: str) -> Utterances:
    number = cuts.name.removesuffix(".gz").removesuffix(".jsonl").removeprefix("cuts")  # .000000, or nothing
    archive = cuts.with_name(f"recording{number}.tar")
    places = _audio_in(archive)
    rows = Rows(cuts, cuts.parent)
    for line, cut in json_lines(cuts, id=str, start=(int, float), duration=(int, float), supervisions=list):
        where = f"{cuts}, line {line}"
        if cut.get("type") != "MonoCut":
            raise ValueError(f"{where}: a cut must be a MonoCut, got {cut.get('type')!r}; write the mixed audio first")
        if cut["id"] not in places:
            raise ValueError(f"{where}: {archive.name} has no audio of the cut {cut['id']!r}")
        recording = cut.get("recording")
        if isinstance(recording, dict):
            check_recording(recording, where)
        for supervision in _list(cut["supervisions"]):
            key, speaker, first, last = _utterance(supervision, cut, where)
            rows.add(line, key, speaker, split, archive.name)
            rows.spans.append((first, last))
            rows.bytes_at.append(places[str(cut["id"])])
    return rows.utterances()


def _audio_in(archive: Path) -> dict[str, Place]:
    """Where the audio of each cut lies in a tar."""
    places: dict[str, Place] = {}
    try:
        with tarfile.open(archive, "r:") as members:
            for member in members:
                key, dot, extension = member.name.rpartition(".")
                if member.isreg() and dot + extension.lower() in AUDIO_EXTENSIONS:
                    places[key] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{archive} is not an uncompressed tar file that can be read ({error})") from error
    return places


def _utterance(supervision: object, cut: dict[str, object], where: str) -> tuple[str, str, float, float]:
    """Id, speaker, and seconds in the cut's audio, of a supervision; what reaches beyond the cut is cut off."""
    match supervision:
        case {"id": str(key), "speaker": str(speaker), "start": int() | float() as start, "duration": length, **others}:
            check_channel(key, others.get("channel", 0), cut.get("channel", 0), where)
            begin, seconds, cut_start = (_number(value, where) for value in (start, length, cut["start"]))
            first = cut_start + max(begin, 0.0)
            return key, speaker, first, cut_start + min(begin + seconds, _number(cut["duration"], where))
        case _:
            raise ValueError(f"{where}: a supervision must have id, speaker, start and duration, got {supervision!r}")


def _list(value: object) -> list[object]:
    assert isinstance(value, list), "json_lines has seen to it"
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected seconds, got {value!r}")
    return float(value)
