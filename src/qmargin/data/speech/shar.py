"""lhotse Shar: shards of cuts and, under the same number, of their recordings. lhotse itself is not needed."""

import tarfile
from pathlib import Path

from qmargin.data.speech.cuts import mono_cuts, said_in
from qmargin.data.speech.lines import Rows
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

    Siblings: `qmargin.data.speech.lhotse.read_lhotse` and `qmargin.data.speech.cuts.read_lhotse_cuts`, of manifests.
    """
    shards = sorted(file for file in folder.glob("cuts.*") if file.name.removesuffix(".gz").endswith(".jsonl"))
    if not shards:
        raise ValueError(f"{folder} holds no cuts.*.jsonl.gz: give the folder of a lhotse Shar")
    return joined({str(shard): _read_shard(shard, split) for shard in shards})


def _read_shard(cuts: Path, split: str) -> Utterances:
    number = cuts.name.removesuffix(".gz").removesuffix(".jsonl").removeprefix("cuts")  # .000000, or nothing
    archive = cuts.with_name(f"recording{number}.tar")
    if not archive.exists():
        raise ValueError(
            f"{cuts} has no {archive.name} beside it, as each shard of a Shar has: a cut manifest is read as "
            "LhotseCuts (--data.source.kind LhotseCuts); CutSet.to_shar(fields={'recording': 'flac'}) writes a Shar"
        )
    places = _audio_in(archive)
    rows = Rows(cuts, cuts.parent)
    for line, cut in mono_cuts(cuts):
        where = f"{cuts}, line {line}"
        if cut["id"] not in places:
            raise ValueError(f"{where}: {archive.name} has no audio of the cut {cut['id']!r}")
        for key, speaker, first, last in said_in(cut, where):
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
