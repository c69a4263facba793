"""Cut manifests as the library lhotse writes them, against what the library reads back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.voices import write_voices

from qmargin.data.speech import AudioFormat, LhotseCuts, read_lhotse_cuts, read_wave

lhotse = pytest.importorskip("lhotse", reason="needs lhotse to write cuts")


def cuts(voices: Path) -> list[Any]:
    """Cuts of six recordings: the whole of three, and parts of three with two supervisions."""
    made = []
    for number, file in enumerate(sorted(voices.rglob("*.wav"))):
        speaker = file.relative_to(voices).parts[0]
        recording = lhotse.Recording.from_file(file, recording_id=f"{speaker}-{file.stem}")
        start, long = (0.0, recording.duration) if number % 2 else (0.1, 0.5)
        said = [(0.0, long)] if number % 2 else [(-0.1, 0.3), (0.3, 0.4)]  # both reach beyond the cut
        supervisions = [
            lhotse.SupervisionSegment(f"{speaker}/{file.stem}-{part}", recording.id, *times, speaker=speaker)
            for part, times in enumerate(said)
        ]
        made.append(lhotse.MonoCut(f"cut.{number}", start, long, 0, recording=recording, supervisions=supervisions))
    return made


def written(path: Path, made: Sequence[Any]) -> Path:
    lhotse.CutSet.from_cuts(made).to_file(str(path))
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_every_supervision_of_a_cut_is_an_utterance(voices: Path, tmp_path: Path, name: str) -> None:
    made = cuts(voices)
    utterances = LhotseCuts(train=written(tmp_path / name, made)).read()
    expected = [(segment, cut) for cut in made for segment in cut.supervisions]
    assert len(utterances) == len(expected) == 9
    for index, (row, (segment, cut)) in enumerate(zip(utterances.rows(), expected, strict=True)):
        assert row == (segment.id, segment.speaker, "train")
        first, last = round(max(segment.start, 0.0) * 16_000), round(min(segment.end, cut.duration) * 16_000)
        found = read_wave(utterances.recording(index), AudioFormat())
        np.testing.assert_allclose(found, cut.load_audio()[0][first:last], rtol=0, atol=1e-7)


def test_places_of_cuts_are_joined_and_relative_to_the_working_directory(
    voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(voices.parent)
    made = cuts(Path(voices.name))
    train, test = written(tmp_path / "train.jsonl", made[:4]), written(tmp_path / "test.jsonl", made[4:])
    utterances = LhotseCuts(train=train, test=test).read()
    assert (utterances.subset("train").num_classes, utterances.subset("test").num_classes) == (2, 1)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(ValueError, match=r"train.jsonl, line 1: there is no audio file .*the working directory, here"):
        read_lhotse_cuts(train, "train")


def test_a_rounded_duration_does_not_cut_the_end_off(voices: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "cuts.jsonl", cuts(voices)[1:2])
    path.write_text(path.read_text().replace('"duration": 1.5', '"duration": 1.4999'))
    whole, _ = soundfile.read(sorted(voices.rglob("*.wav"))[1], dtype="float32")
    utterances = read_lhotse_cuts(path, "train")
    np.testing.assert_array_equal(read_wave(utterances.recording(0), AudioFormat()), whole)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"type": "MixedCut"}, r"line 1: a cut must be a MonoCut, got 'MixedCut'"),
        ({"recording": None}, r"line 1: a recording must have sources and duration, got None"),
        ({"recording": {"id": "r", "sources": [], "duration": 1}}, r"line 1: a recording must be one file on the disk"),
        (
            {"recording": {"id": "r", "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}},
            r"line 1: lhotse changes the recording 'r' as it loads it",
        ),
        ({"recording": {"id": "r", "channel_ids": [0, 1]}}, r"line 1: the recording 'r' has the channels \[0, 1\]"),
        ({"channel": 1}, r"line 1: the supervision 'id0/0-0' is of channel 0, read is channel 1"),
        ({"supervisions": [{"id": "a", "start": 0, "duration": 1}]}, r"line 1: a supervision must have id, speaker"),
        ({"start": "0"}, r"line 1: expected start to be int or float, got '0'"),
    ],
)
def test_broken_cuts_are_named_by_line(voices: Path, tmp_path: Path, change: dict[str, object], law: str) -> None:
    path = written(tmp_path / "cuts.jsonl", cuts(voices)[:2])
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest]))
    with pytest.raises(ValueError, match=rf"cuts.jsonl, {law}"):
        read_lhotse_cuts(path, "train")


def test_cuts_without_a_speaker_are_refused(tmp_path: Path) -> None:
    made = cuts(write_voices(tmp_path / "voices", speakers=1))
    path = written(tmp_path / "cuts.jsonl", [cut.drop_supervisions() for cut in made])
    with pytest.raises(ValueError, match=r"cuts.jsonl: no cut has a supervision, which would name its speaker: give"):
        read_lhotse_cuts(path, "train")
    path = written(tmp_path / "cuts.jsonl", [made[0].drop_supervisions(), made[1]])
    assert len(read_lhotse_cuts(path, "train")) == 1
