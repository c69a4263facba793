"""Shar as the library lhotse writes it, against what the library reads back."""

import gc
import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.voices import hum, write_voices

from qmargin.data.speech import AudioFormat, LhotseShar, read_shar, read_wave

lhotse = pytest.importorskip("lhotse", reason="needs lhotse to write a Shar")
# lhotse leaves the tars that it reads open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def cuts(voices: Path) -> Any:
    """Cuts of half a second, some with two supervisions, of six recordings."""
    made = []
    for number, file in enumerate(sorted(voices.rglob("*.wav"))):
        speaker = file.relative_to(voices).parts[0]
        recording = lhotse.Recording.from_file(file, recording_id=f"{speaker}-{file.stem}")
        said = [(0.0, 0.5)] if number % 2 else [(0.0, 0.2), (0.3, 0.4)]  # the last goes on beyond the cut
        supervisions = [
            lhotse.SupervisionSegment(
                id=f"{speaker}/{file.stem}-{part}", recording_id=recording.id, start=start, duration=long,
                speaker=speaker,
            )
            for part, (start, long) in enumerate(said)
        ]  # fmt: skip
        made.append(
            lhotse.MonoCut(
                id=f"cut.{number}", start=0.1, duration=0.5, channel=0, recording=recording, supervisions=supervisions
            )
        )
    return lhotse.CutSet.from_cuts(made)


@pytest.fixture
def shar(tmp_path: Path) -> Path:
    folder = tmp_path / "shar"
    folder.mkdir()
    voices = write_voices(tmp_path / "voices")
    cuts(voices).to_shar(str(folder), fields={"recording": "wav"}, shard_size=4)
    return folder


def test_every_supervision_is_read_where_it_lies(shar: Path) -> None:
    utterances = read_shar(shar, "train")
    expected = [
        (segment.id, segment.speaker, cut.load_audio()[0], segment)
        for cut in lhotse.CutSet.from_shar(in_dir=str(shar))
        for segment in cut.supervisions
    ]
    gc.collect()  # here, where the warning of the open tar is expected
    assert len(utterances) == len(expected) == 9
    for index, (row, (key, speaker, wave, segment)) in enumerate(zip(utterances.rows(), expected, strict=True)):
        assert row == (key, speaker, "train")
        first, last = round(segment.start * 16_000), round(min(segment.end, 0.5) * 16_000)
        found = read_wave(utterances.recording(index), AudioFormat())
        np.testing.assert_allclose(found, wave[first:last], rtol=0, atol=1e-4)  # 16 bits
    assert utterances.recording(0).bytes_at is not None


def test_lossless_and_lossy_audio_and_plain_cuts_are_read(tmp_path: Path) -> None:
    voices = write_voices(tmp_path / "voices")
    for kind, tolerance in (("flac", 1e-4), ("wav", 1e-4)):
        folder = tmp_path / kind
        folder.mkdir()
        cuts(voices).to_shar(str(folder), fields={"recording": kind}, shard_size=None)
        (packed,) = folder.glob("cuts.*")
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
        found = read_shar(folder, "test")
        wave, _ = soundfile.read(voices / "id0/video/0.wav", start=1600, frames=3200)
        np.testing.assert_allclose(read_wave(found.recording(0), AudioFormat()), wave, rtol=0, atol=tolerance)


def test_the_source_has_a_place_for_each_split(shar: Path) -> None:
    assert len(LhotseShar(train=shar).read()) == 9
    with pytest.raises(ValueError, match=r"id0/0-0"):
        LhotseShar(train=shar, test=shar).read()


def test_channels_that_lhotse_has_taken_apart_and_speeds_it_has_changed_are_read(tmp_path: Path) -> None:
    """Its Shar holds what its own loading makes of a recording: one channel, at its speed."""
    file, folder = tmp_path / "call.wav", tmp_path / "calls"
    soundfile.write(file, np.stack([hum(1.0, 100.0), hum(1.0, 200.0)], axis=1), 16_000)
    recording = lhotse.Recording.from_file(file, recording_id="call")
    sides = [
        lhotse.MonoCut(
            id=f"cut{side}", start=0.0, duration=1.0, channel=side, recording=recording,
            supervisions=[lhotse.SupervisionSegment(f"s{side}", "call", 0.0, 1.0, channel=side, speaker=f"p{side}")],
        )
        for side in range(2)
    ]  # fmt: skip
    sides.append(sides[1].perturb_speed(1.1))
    folder.mkdir()
    lhotse.CutSet.from_cuts(sides).to_shar(str(folder), fields={"recording": "wav"}, shard_size=None)
    found = read_shar(folder, "train")
    for index, side in enumerate(sides):
        wave = read_wave(found.recording(index), AudioFormat())
        np.testing.assert_allclose(wave, side.load_audio()[0], rtol=0, atol=1e-4)


def rewritten(shar: Path, change: dict[str, object]) -> None:
    """The first line of the first shard of cuts with other fields."""
    file = min(shar.glob("cuts.*"))
    first, *rest = gzip.decompress(file.read_bytes()).decode().splitlines()
    lines = [json.dumps({**json.loads(first), **change}), *rest]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"type": "MixedCut"}, r"line 1: a cut must be a MonoCut, got 'MixedCut'"),
        ({"id": "other"}, r"line 1: recording.000000.tar has no audio of the cut 'other'"),
        ({"supervisions": [{"id": "a", "start": 0, "duration": 1}]}, r"must have id, speaker, start and duration"),
        (
            {"supervisions": [{"id": "a", "speaker": "b", "start": 0, "duration": "1"}]},
            r"line 1: expected seconds, got '1'",
        ),
        (
            {"recording": {"id": "r", "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}},
            r"line 1: lhotse changes the recording 'r' as it loads it",
        ),
        ({"recording": {"id": "r", "channel_ids": [0, 1]}}, r"line 1: the recording 'r' has the channels \[0, 1\]"),
        ({"channel": 1}, r"line 1: the supervision 'id0/0-0' is of channel 0, read is channel 1: write one file a"),
        ({"start": "0"}, r"line 1: expected start to be int or float, got '0'"),
    ],
)
def test_broken_cuts_are_named_by_line(shar: Path, change: dict[str, object], law: str) -> None:
    rewritten(shar, change)
    with pytest.raises(ValueError, match=rf"cuts.000000.jsonl.gz, {law}" if law.startswith("line") else law):
        read_shar(shar, "train")


def test_missing_and_compressed_tars_are_refused(shar: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no cuts.\*.jsonl.gz: give the folder of a lhotse Shar"):
        read_shar(tmp_path, "train")
    archive = shar / "recording.000001.tar"
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(ValueError, match=r"recording.000001.tar is not an uncompressed tar file that can be read"):
        read_shar(shar, "train")
    archive.unlink()
    law = r"cuts.000001.jsonl.gz has no recording.000001.tar beside it, .*: a cut manifest is read as LhotseCuts .*Shar"
    with pytest.raises(ValueError, match=law):
        read_shar(shar, "train")


def test_audio_of_another_kind_is_no_member(shar: Path) -> None:
    archive = shar / "recording.000000.tar"
    with tarfile.open(archive) as members:
        names = members.getnames()
    content = archive.read_bytes()
    assert "cut.0.wav" in names
    archive.write_bytes(content.replace(b"cut.0.wav", b"cut.0.mp3"))
    with pytest.raises(ValueError, match=r"recording.000000.tar"):
        read_shar(shar, "train")
