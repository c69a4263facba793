"""WeSpeaker's training lists: raw lists (JSON lines) and shards (tar files of wav and spk members)."""

import tarfile
from pathlib import Path

from qmargin.data.speech.lines import Rows, json_lines, numbered_lines
from qmargin.data.speech.relative import working_directory
from qmargin.data.speech.utterances import Utterances
from qmargin.data.speech.wav import AUDIO_EXTENSIONS


def read_wespeaker_raw(path: Path, split: str) -> Utterances:
    """Read a raw list: lines `{"key": id, "wav": path, "spk": speaker}`.

    Relative paths are relative to the working directory.

    Args:
        path: the list (raw.list).
        split: split of all its utterances: "train", "validation" or "test".

    Raises:
        ValueError: naming the line that is no such object, lists an id twice or a file that is not there.
    """
    rows = Rows(path)
    for number, row in json_lines(path, key=str, wav=str, spk=str):
        rows.add(number, _key(str(row["key"])), str(row["spk"]), split, str(row["wav"]))
    return rows.utterances()


def read_wespeaker_shards(path: Path, split: str) -> Utterances:
    """Read a list of shards: lines that are paths of tar files with members `key.spk` and `key.wav` (.flac, .ogg).

    Each tar is walked once, header by header; its audio stays on the disk and is read where it lies. Compressed tars
    are refused: nothing can be sought in them.

    Args:
        path: the list (shard.list); relative paths in it are relative to the working directory.
        split: split of all its utterances: "train", "validation" or "test".

    Raises:
        ValueError: naming the line of a tar that is missing, compressed or damaged, or of an utterance that has no
            speaker or no audio in its tar.
    """
    rows = Rows(path)
    for number, line in numbered_lines(path):
        shard = line.strip()
        try:
            with tarfile.open(Path.cwd() / shard, "r:") as archive:
                _add_members(rows, archive, number, shard, split)
        except FileNotFoundError as error:
            raise ValueError(
                f"{path}, line {number}: there is no tar file {shard}{working_directory(shard)}"
            ) from error
        except (OSError, tarfile.TarError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}, line {number}: {shard} is not an uncompressed tar file that can be read ({error})"
            ) from error
    return rows.utterances()


def _add_members(rows: Rows, archive: tarfile.TarFile, number: int, shard: str, split: str) -> None:
    speakers: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}
    for member in archive:
        key, dot, extension = member.name.rpartition(".")
        if extension == "spk":
            content = archive.extractfile(member)
            speakers[key] = content.read().decode("utf-8").strip() if content is not None else ""
        elif dot + extension.lower() in AUDIO_EXTENSIONS and member.isreg():
            places[key] = (member.offset_data, member.size)
    lonely = sorted(set(speakers) ^ set(places))
    if lonely:
        missing = "audio" if lonely[0] in speakers else "speaker (.spk)"
        raise ValueError(f"{rows.source}, line {number}: {lonely[0]!r} has no {missing} in {shard}")
    for key, place in places.items():
        rows.add(number, _key(key), speakers[key], split, shard)
        rows.bytes_at.append(place)


def _key(key: str) -> str:
    """A key as an id: without a leading `./` or slash, which manifests do not have."""
    return key.removeprefix("./").lstrip("/")
