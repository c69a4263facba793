import gzip
import io
import json
import math
import re
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Literal

import numpy as np
import pytest
import soundfile
from tests.voices import hum

from qmargin.data.speech import (
    AudioFormat,
    KaldiFolders,
    LhotseManifests,
    SpeakerFolders,
    SpeechTable,
    Utterances,
    WeSpeakerRaw,
    WeSpeakerShards,
    read_kaldi,
    read_lhotse,
    read_speaker_folders,
    read_speech_table,
    read_wave,
    read_wespeaker_raw,
    read_wespeaker_shards,
)

ROWS = [(f"id{speaker}/video/{utterance}.wav", f"id{speaker}") for speaker in range(3) for utterance in range(2)]


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def check(utterances: Utterances, voices: Path) -> None:
    """All six utterances of `voices`, with their speakers and sound."""
    assert [(speaker, split) for _, speaker, split in utterances.rows()] == [(name, "train") for _, name in ROWS]
    for index, (name, _) in enumerate(ROWS):
        expected, _rate = soundfile.read(voices / name, dtype="float32")
        np.testing.assert_array_equal(read_wave(utterances.recording(index), AudioFormat()), expected)


def kaldi(folder: Path, voices: Path) -> Path:
    text(folder / "wav.scp", *(f"utt{number} {voices / name}" for number, (name, _) in enumerate(ROWS)))
    text(folder / "utt2spk", *(f"utt{number} {speaker}" for number, (_, speaker) in enumerate(ROWS)))
    return folder


def raw(path: Path, voices: Path) -> Path:
    return text(path, *(json.dumps({"key": name, "wav": str(voices / name), "spk": spk}) for name, spk in ROWS))


def shard(path: Path, voices: Path, mode: Literal["w", "w:gz"] = "w", leave_out: str = "") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, speaker in ROWS:
            key = name.removesuffix(".wav")
            for member, content in ((f"{key}.spk", speaker.encode()), (name, (voices / name).read_bytes())):
                if not leave_out or not member.endswith(leave_out):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return path


def lhotse(folder: Path, voices: Path, **change: object) -> tuple[Path, Path]:
    recordings, supervisions = folder / "recordings.jsonl.gz", folder / "supervisions.jsonl"
    with gzip.open(recordings, "wt") as file:
        for number, (name, _) in enumerate(ROWS):
            sources = [{"type": "file", "channels": [0], "source": str(voices / name)}]
            row = {"id": f"r{number}", "sources": sources, "sampling_rate": 16_000, "duration": 1.0 + number % 2 / 2}
            file.write(json.dumps(row) + "\n")
    rows = [
        {
            "id": f"s{n}",
            "recording_id": f"r{n}",
            "start": 0.0,
            "duration": 1.0 + n % 2 / 2,
            "channel": 0,
            "speaker": spk,
        }
        for n, (_, spk) in enumerate(ROWS)
    ]
    rows[3] |= change
    text(supervisions, *map(json.dumps, rows))
    return recordings, supervisions


def test_every_list_gives_the_same_recordings(voices: Path, tmp_path: Path) -> None:
    check(read_speaker_folders(voices, "train"), voices)
    check(read_kaldi(kaldi(tmp_path / "kaldi", voices), "train"), voices)
    check(read_wespeaker_raw(raw(tmp_path / "raw.list", voices), "train"), voices)
    shards = text(tmp_path / "shard.list", str(shard(tmp_path / "a.tar", voices)))
    check(read_wespeaker_shards(shards, "train"), voices)
    check(read_lhotse(*lhotse(tmp_path, voices), "train"), voices)
    table = text(voices / "table.csv", "path,age,speaker,split", *(f"{name},7,{spk},train" for name, spk in ROWS))
    check(read_speech_table(table, {"train": "train"}), voices)


def test_ids_of_folders_are_those_of_trial_lists(voices: Path) -> None:
    assert read_speaker_folders(voices, "test").path(0) == "id0/video/0.wav"


def test_sources_join_train_and_test_people(voices: Path, tmp_path: Path) -> None:
    for name in ("dev", "test"):
        for row, (path, _) in enumerate(ROWS):
            if (row < 4) == (name == "dev"):
                (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
                copyfile(voices / path, tmp_path / name / path)
    utterances = SpeakerFolders(train=tmp_path / "dev", test=tmp_path / "test").read()
    assert utterances.subset("train").num_classes == 2
    assert utterances.subset("test").num_classes == 1
    folder = kaldi(tmp_path / "kaldi", voices)
    lists = text(tmp_path / "shard.list", str(shard(tmp_path / "a.tar", voices)))
    recordings, supervisions = lhotse(tmp_path, voices)
    for source in (
        KaldiFolders(train=folder),
        WeSpeakerRaw(train=raw(tmp_path / "raw.list", voices)),
        WeSpeakerShards(train=lists),
        LhotseManifests(recordings=recordings, supervisions=supervisions),
    ):
        check(source.read(), voices)
    fault = (
        r"kaldi \(test\): the path 'utt0' is listed twice: a sample is listed once"  # of the part, not of a row in all
    )
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}/{fault}"):
        KaldiFolders(train=folder, test=folder).read()
    other = kaldi(tmp_path / "other", voices)
    for file in ("wav.scp", "utt2spk"):
        (other / file).write_text((other / file).read_text().replace("utt", "more"))
    with pytest.raises(ValueError, match=r"other \(validation\): identity 'id0' is in the splits 'train' and 'valid"):
        KaldiFolders(train=folder, validation=other).read()


@pytest.mark.parametrize("segmented", ["train", "test"])
def test_segments_of_one_place_join_whole_utterances_of_another(voices: Path, tmp_path: Path, segmented: str) -> None:
    parts = kaldi(tmp_path / "parts", voices)
    text(parts / "segments", "part-a utt0 0 0.5", "part-b utt1 0.25 1.5")
    text(parts / "utt2spk", "part-a id0", "part-b id0")
    whole = tmp_path / "whole"
    text(whole / "wav.scp", *(f"whole{row} {voices / ROWS[row][0]}" for row in (2, 3)))
    text(whole / "utt2spk", "whole2 id1", "whole3 id1")
    source = KaldiFolders(train=parts, test=whole) if segmented == "train" else KaldiFolders(train=whole, test=parts)
    utterances = source.read()
    long = {utterances.path(row): read_wave(utterances.recording(row), AudioFormat()) for row in range(4)}
    for row in (2, 3):
        expected, _ = soundfile.read(voices / ROWS[row][0], dtype="float32")
        np.testing.assert_array_equal(long[f"whole{row}"], expected)
    assert [len(long[name]) for name in ("part-a", "part-b")] == [8_000, 20_000]


def test_relative_paths_of_lists_are_of_the_working_directory(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(voices.parent)
    here = Path(voices.name)
    shard(tmp_path / "a.tar", voices)
    readers = [
        (partial(read_kaldi, kaldi(tmp_path / "kaldi", here)), "audio file"),
        (partial(read_wespeaker_raw, raw(tmp_path / "raw.list", here)), "audio file"),
        (partial(read_wespeaker_shards, text(tmp_path / "shard.list", "a.tar")), "tar file"),
        (partial(read_lhotse, *lhotse(tmp_path, here)), "audio file"),
    ]
    for read, _ in readers:
        check(read(split="train"), voices)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    law = rf"is a relative path, read from the working directory, here {elsewhere}: start where it is right"
    for read, what in readers:
        with pytest.raises(ValueError, match=rf", line 1: there is no {what} .*{law}, or give absolute paths"):
            read(split="train")
    table = text(voices / "table.csv", "path,speaker,split", "gone.wav,a,train")
    with pytest.raises(ValueError, match=r"there is no audio file .*gone\.wav$"):  # of a table, relative to its folder
        read_speech_table(table, {"train": "train"})


def test_a_byte_order_mark_is_no_part_of_a_list(voices: Path, tmp_path: Path) -> None:
    """As Excel writes CSV files."""
    lines = ["path,speaker,split", *(f"{name},{spk},train" for name, spk in ROWS)]
    table = voices / "table.csv"
    table.write_text("\n".join(lines), encoding="utf-8-sig")
    check(read_speech_table(table, {"train": "train"}), voices)
    packed = tmp_path / "raw.list.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + raw(tmp_path / "raw.list", voices).read_bytes()))
    check(read_wespeaker_raw(packed, "train"), voices)


def test_kaldi_segments_are_parts_of_recordings(voices: Path, tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "kaldi", voices)
    text(folder / "segments", "part-b utt1 0.25 1.5", "part-a utt0 0 0.5")
    text(folder / "utt2spk", "part-a id0", "part-b id0")
    utterances = read_kaldi(folder, "train")
    to_the_end = kaldi(tmp_path / "end", voices)
    text(to_the_end / "segments", "utt0 utt1 0.25 -1", "utt1 utt1 0.25 1.75")
    ends = read_kaldi(to_the_end, "train")
    for index in range(2):
        np.testing.assert_array_equal(
            read_wave(ends.recording(index), AudioFormat()), read_wave(utterances.recording(0), AudioFormat())
        )
    whole, _ = soundfile.read(voices / ROWS[1][0], dtype="float32")
    np.testing.assert_array_equal(read_wave(utterances.recording(0), AudioFormat()), whole[4_000:24_000])
    assert utterances.digest != read_kaldi(kaldi(tmp_path / "other", voices), "train").digest
    (folder / "segments").write_text("part-b utt1 0.25 1.25\npart-a utt0 0 0.5\n")
    assert read_kaldi(folder, "train").digest != utterances.digest


BROKEN_KALDI: list[tuple[str, list[str], str]] = [
    ("wav.scp", ["utt0 sph2pipe -f wav a.sph |"], r"wav\.scp, line 1: 'utt0' is a command, and commands are not run"),
    ("wav.scp", ["utt0"], r"wav\.scp, line 1: expected `recording-id path`, got 'utt0'"),
    ("wav.scp", ["utt0 a", "utt0 b"], r"wav\.scp, line 2: 'utt0' stands on line 1 already"),
    ("wav.scp", ["utt0 /no/such.wav"], r"wav\.scp, line 1: there is no audio file /no/such\.wav"),
    ("wav.scp", [], r"wav\.scp has no line"),
    ("utt2spk", ["utt0 id0"], r"utt2spk has no line for 'utt1', which is in wav\.scp, line 2"),
    ("segments", ["part utt0 1 0.5"], r"segments, line 1: expected seconds 0 <= first < last"),
    ("segments", ["part utt0 zero 1"], r"segments, line 1: expected `utterance-id recording-id first last`"),
    ("segments", ["part gone 0 1"], r"wav\.scp has no line for 'gone', which is in segments, line 1"),
    (
        "segments",
        ["part utt0 0 1 A"],
        r"segments, line 1: expected seconds 0 <= first < last, or a last of -1 for",
    ),
    ("segments", ["part utt0 -1 1"], r"segments, line 1: expected seconds 0 <= first < last"),
    ("segments", ["part utt0 0 inf"], r"segments, line 1: expected seconds 0 <= first < last"),
]


@pytest.mark.parametrize(("file", "lines", "reason"), BROKEN_KALDI)
def test_broken_kaldi_directories_are_named_by_line(
    voices: Path, tmp_path: Path, file: str, lines: list[str], reason: str
) -> None:
    folder = kaldi(tmp_path / "kaldi", voices)
    text(folder / file, *lines)
    with pytest.raises(ValueError, match=reason):
        read_kaldi(folder, "train")


BROKEN_RAW: list[tuple[str, str]] = [
    ("{", r"raw\.list, line 1: it is not JSON"),
    ("[]", r"raw\.list, line 1: expected an object with key, wav, spk"),
    ('{"key": "a", "wav": "b"}', r"raw\.list, line 1: expected spk to be str, got None"),
    ('{"key": "a", "wav": "/gone.wav", "spk": "c"}', r"raw\.list, line 1: there is no audio file /gone\.wav"),
    ('{"key": "../a", "wav": "b", "spk": "c"}', r"raw\.list, line 1: the path '\.\./a' must be relative to the root"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN_RAW)
def test_broken_raw_lists_are_named_by_line(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_wespeaker_raw(text(tmp_path / "raw.list", line), "train")


def test_broken_shards_are_named_by_line(voices: Path, tmp_path: Path) -> None:
    def reading(path: Path) -> Callable[[], Utterances]:
        lists = text(tmp_path / "shard.list", str(shard(tmp_path / "good.tar", voices)), str(path))
        return lambda: read_wespeaker_shards(lists, "train")

    for path, reason in (
        (tmp_path / "gone.tar", r"shard\.list, line 2: there is no tar file .*gone\.tar$"),
        (shard(tmp_path / "a.tar.gz", voices, "w:gz"), r"line 2: .*a\.tar\.gz is not an uncompressed tar file"),
        (shard(tmp_path / "b.tar", voices, leave_out=".spk"), r"line 2: 'id0/video/0' has no speaker \(\.spk\) in"),
        (shard(tmp_path / "c.tar", voices, leave_out="1.wav"), r"line 2: 'id0/video/1' has no audio in"),
        (shard(tmp_path / "d.tar", voices), r"shard\.list, line 2: the path 'id0/video/0' is listed twice"),
    ):
        with pytest.raises(ValueError, match=reason):
            reading(path)()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recording_id": "r99"}, r"supervisions\.jsonl, line 4: no recording 'r99' in"),
        ({"speaker": None}, r"supervisions\.jsonl, line 4: expected speaker to be str, got None"),
        ({"start": True}, r"supervisions\.jsonl, line 4: expected start to be int or float, got True"),
        (
            {"channel": 1},
            r"supervisions\.jsonl, line 4: the supervision 's3' is of channel 1, read is channel 0: write one file a",
        ),
        ({"channel": [0, 1]}, r"supervisions\.jsonl, line 4: the supervision 's3' is of channel \[0, 1\], read is"),
    ],
)
def test_broken_lhotse_manifests_are_named_by_line(
    voices: Path, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    recordings, supervisions = lhotse(tmp_path, voices, **change)
    with pytest.raises(ValueError, match=reason):
        read_lhotse(recordings, supervisions, "train")


def test_lhotse_utterances_that_span_their_recording_are_read_to_its_end(voices: Path, tmp_path: Path) -> None:
    recordings, supervisions = lhotse(tmp_path, voices, duration=1.25)
    short = gzip.decompress(recordings.read_bytes()).replace(b'"duration": 1.5', b'"duration": 1.499')  # rounded down
    recordings.write_bytes(gzip.compress(short))
    utterances = read_lhotse(recordings, supervisions, "train")
    assert utterances.spans is not None
    assert utterances.spans[:, 1].tolist() == [math.inf, math.inf, math.inf, 1.25, math.inf, math.inf]
    waves = [read_wave(utterances.recording(row), AudioFormat()) for row in range(4)]
    assert [len(wave) for wave in waves] == [16_000, 24_000, 16_000, 20_000]


def test_lhotse_recordings_of_commands_are_refused(tmp_path: Path) -> None:
    sources = [{"type": "command", "channels": [0], "source": "cat a.wav"}]
    path = text(tmp_path / "r.jsonl", json.dumps({"id": "r0", "sources": sources, "duration": 1.0}))
    with pytest.raises(ValueError, match=r"r\.jsonl, line 1: a recording must be one file on the disk"):
        read_lhotse(path, path, "train")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]},
            r"r\.jsonl, line 1: lhotse changes the recording 'r0' as it loads it \(transforms .*'Speed'.*by CutSet",
        ),
        ({"channel_ids": [0, 1]}, r"r\.jsonl, line 1: the recording 'r0' has the channels \[0, 1\], and who speaks in"),
        (
            {"sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}]},
            r"r\.jsonl, line 1: the recording 'r0' has the channels \[0, 1\], .* write one file a channel",
        ),
    ],
)
def test_lhotse_recordings_that_are_not_what_lies_in_their_file_are_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    sources = [{"type": "file", "channels": [0], "source": "a.wav"}]
    row = {"id": "r0", "sources": sources, "duration": 1.0, "channel_ids": [0], "transforms": None}
    path = text(tmp_path / "r.jsonl", json.dumps(row | change))
    with pytest.raises(ValueError, match=reason):
        read_lhotse(path, path, "train")


def test_splits_of_a_table_are_used_by_name(voices: Path) -> None:
    splits = ["train", "train", "extra", "extra", "test", "test"]
    lines = [f"{name},{spk},{split}" for (name, spk), split in zip(ROWS, splits, strict=True)]
    table = text(voices / "table.csv", "path,speaker,split", *lines)
    assert SpeechTable(path=table, train=("train", "extra")).read().subset("train").num_classes == 2
    assert SpeechTable(path=table, left_out=("extra",)).read().subset("train").num_classes == 1
    with pytest.raises(ValueError, match=r"table\.csv, line 4: the split 'extra' is not spoken for; say whether"):
        SpeechTable(path=table).read()
    with pytest.raises(ValueError, match=r"SpeechTable: the split 'extra' has two uses"):
        SpeechTable(path=table, train=("extra",), left_out=("extra",))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["path,split"], r"table\.csv, line 1: there must be one column speaker, there are path, split"),
        (["path,speaker,split", "a,b"], r"table\.csv, line 2: the header has 3 fields, this line 2"),
        (
            ["path,speaker,split", "/a.wav,b,train"],
            r"table\.csv, line 2: the path '/a\.wav' is absolute, .*: put the table beside the audio, or .*Kaldi",
        ),
        (["path,speaker,split", "a.wav,b,train"], r"table\.csv, line 2: there is no audio file .*a\.wav"),
        (["path,speaker,split"], r"table\.csv: no row is in a split that is used"),
    ],
)
def test_broken_tables_are_named_by_line(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SpeechTable(path=text(tmp_path / "table.csv", *lines)).read()


def test_broken_folders_are_named(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*gone: give the one that holds the recordings"):
        read_speaker_folders(tmp_path / "gone", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no audio below .*empty: looked for \.flac"):
        read_speaker_folders(tmp_path / "empty", "train")
    (voices / "mute").mkdir()
    with pytest.raises(ValueError, match=r"the speaker 'mute' has no recording"):
        read_speaker_folders(voices, "train")
    soundfile.write(voices / "stray.wav", hum(0.1), 16_000)
    with pytest.raises(ValueError, match=r"must hold a folder for each speaker: stray\.wav lies beside them"):
        read_speaker_folders(voices, "train")


def test_subsets_keep_their_recordings(voices: Path, tmp_path: Path) -> None:
    utterances = read_lhotse(*lhotse(tmp_path, voices, start=0.25, duration=0.5), "train")
    held = utterances.hold_out(1, seed=0)
    for part in (held.subset("train"), held.subset("validation")):
        names = [name for name, _, _ in utterances.rows()]
        for index in range(len(part)):
            assert part.recording(index) == utterances.recording(names.index(part.path(index)))
