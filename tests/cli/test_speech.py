"""A run on speech, from folders of recordings to figures, as a user of the command line meets it."""

import csv
import json
import re
import shutil
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.voices import write_voices

from qmargin.calibration import calibrate
from qmargin.cli import main
from qmargin.cli._run_trials import evenly
from qmargin.cli.train import _with_absolute_paths
from qmargin.data.speech import RecordedNoise, SpeakerFolders
from qmargin.protocols.score_files import read_scores
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.scoring.vector_files import read_vectors
from qmargin.training import RunFolder, SpeechDataConfig

TINY = """
--data.frames 40 --data.front-end.bins 24 --backbone.bins 24 --backbone.channels 16 --backbone.pooled 24
--backbone.bottleneck 8 --backbone.embedding-dim 12 --batch-size 6 --epochs 2 --log-every 1 --data.workers 1
--data.validation-identities 3
"""
SPLITS = ("train",) * 8 + ("held",) * 4


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight speakers to train on and four others; a table of them, and a trial list of the others."""
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder, speakers=12, utterances=2)
    names = [f"id{speaker}/video/{utterance}.wav" for speaker in range(12) for utterance in range(2)]
    rows = [f"{name},{name.split('/')[0]},{SPLITS[row // 2]}" for row, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["path,speaker,split", *rows]) + "\n")
    pairs = list(combinations(names[16:], 2))
    (folder / "trials").write_text("".join(f"{int(a[:4] == b[:4])} {a} {b}\n" for a, b in pairs))
    (folder / "wav.scp").write_text("".join(f"{name} {folder / name}\n" for name in names))
    return folder


@pytest.fixture(scope="module")
def run(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "speech"
    source = ["--data.source.path", str(voices / "table.csv")]
    splits = ["--data.source.train", "train", "--data.source.test", "held"]
    main(["train", "speakers-small", "--out", str(out), *source, *splits, *TINY.split()])
    return out


def test_paths_at_any_depth_are_kept_from_the_root_on() -> None:
    config = _with_absolute_paths(find_recipe("voxceleb-resnet34").with_loss())
    assert isinstance(config.data, SpeechDataConfig)
    assert config.data.source == SpeakerFolders(train=Path.cwd() / "voxceleb2/dev/wav")
    noise = RecordedNoise(musan=Path.cwd() / "musan", impulse_responses=Path.cwd() / "simulated_rirs")
    assert config.data.augmentation.noise == noise


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_evaluate_judges_every_pair_of_held_out_utterances(run: Path) -> None:
    main(["evaluate", str(run), "--resamples", "40"])
    figures = json.loads((run / "metrics-test.json").read_text())
    assert (figures["genuine"], figures["impostor"]) == (4, 24)


def test_evaluate_takes_impostors_of_one_gender(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "meta.csv").write_text("ID,Gender\n" + "".join(f"id{n},{'mf'[n % 2]}\n" for n in range(12)))
    words = ("evaluate", run, "--resamples", 40, "--meta", tmp_path / "meta.csv", "--same")
    main([*map(str, words), "Gender", "--worst", "2", "--worst-far", "0.2"])
    figures = json.loads((run / "metrics-test-same-gender.json").read_text())
    assert (figures["genuine"], figures["impostor"]) == (4, 8)
    rows = list(csv.DictReader((run / "metrics-test-same-gender-worst.csv").read_text().splitlines()))
    people = [re.findall(r"id(\d+)", str(row)) for row in rows if "impostor" in str(row)]
    assert len(people) == 2
    assert all(int(a) % 2 == int(b) % 2 for a, b, *_ in people)
    assert "impostors of the same Gender" in (run / "metrics-test-same-gender.md").read_text()
    assert "no column 'age'" in refused(capsys, *words, "age")
    assert "--meta and --same go together: a table of" in refused(capsys, "evaluate", run, "--same", "Gender")


def test_embed_finds_recordings_by_folder_or_by_list(run: Path, voices: Path, tmp_path: Path) -> None:
    main(["embed", str(run), "--audio", str(voices), "--out", str(tmp_path / "a.npz")])
    main(["embed", str(run), "--audio-list", str(voices / "wav.scp"), "--out", str(tmp_path / "b.npz")])
    first, second = (read_vectors(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert len(first.ids) == 24
    rows = second.locate(first.ids, "the list")
    np.testing.assert_allclose(first.vectors, second.vectors[rows], atol=1e-4)


def test_evaluate_scores_trial_lists(run: Path, voices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", str(run), "--trials", str(voices / "trials"), "--audio", str(voices), "--resamples", "40"])
    scored = read_scores(run / "trials" / "trials" / "scores.txt")
    vectors = read_vectors(run / "trials" / "trials" / "embeddings.npz")
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    pairs = [line.split()[1:] for line in (voices / "trials").read_text().splitlines()]
    rows = vectors.locate(np.array(pairs).ravel(), "the trials").reshape(-1, 2)
    np.testing.assert_allclose(scored.scores, (unit[rows[:, 0]] * unit[rows[:, 1]]).sum(axis=1), atol=1e-5)
    (report,) = json.loads((run / "trials" / "trials" / "metrics.json").read_text())["lists"]
    assert (report["genuine"], report["impostor"], report["speakers"]) == (4, 24, 4)
    trials = ("evaluate", run, "--trials", voices / "trials", "--audio", voices, "--weights", "best")
    for also in ((), ("--norm", "s-norm")):
        assert "has no best.safetensors: only a training with" in refused(capsys, *trials, *also)
    by_list = ["--trials", str(voices / "trials"), "--audio-list", str(voices / "wav.scp"), "--resamples", "40"]
    main(["evaluate", str(run), *by_list])
    np.testing.assert_allclose(read_scores(run / "trials" / "trials" / "scores.txt").scores, scored.scores, atol=1e-5)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    found: NDArray[np.floating] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def as_norm(first: NDArray[np.floating], second: NDArray[np.floating], cohort: NDArray[np.floating]) -> float:
    """AS-norm 1 with the three nearest members, of one trial, as it is written."""
    score, halves = float(first @ second), []
    for side in (first, second):
        nearest = np.sort(cohort @ side)[-3:]
        halves.append((score - nearest.mean()) / nearest.std())
    return float(np.mean(halves))


def test_evaluate_normalises_on_the_training_speakers_and_calibrates_on_the_validation_speakers(
    run: Path, voices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ["evaluate", str(run), "--trials", str(voices / "trials"), "--audio", str(voices), "--resamples", "40"]
    main([*trials, "--norm", "as-norm1", "--top-n", "3", "--calibrate"])
    assert "cohort: 5 training speakers, 10 of their 10 utterances" in capsys.readouterr().out
    tested = read_vectors(run / "trials" / "trials" / "embeddings.npz")
    train, held = (embed_run(RunFolder(run), split) for split in ("train", "validation"))
    means = np.stack([train.vectors[train.identities == name].mean(axis=0) for name in np.unique(train.identities)])
    cohort = unit(means)

    people = unit(held.vectors)
    pairs = list(combinations(range(len(people)), 2))
    learned = calibrate(
        {"score": [as_norm(people[a], people[b], cohort) for a, b in pairs]},
        [int(held.identities[a] == held.identities[b]) for a, b in pairs],
        source="by hand",
    )
    rows = [line.split()[1:] for line in (voices / "trials").read_text().splitlines()]
    sides = unit(tested.vectors)[tested.locate(np.array(rows).ravel(), "trials")].reshape(len(rows), 2, -1)
    expected = learned({"score": [as_norm(first, second, cohort) for first, second in sides]})
    found = read_scores(run / "trials" / "trials" / "scores.txt").scores
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    (report,) = json.loads((run / "trials" / "trials" / "metrics.json").read_text())["lists"]
    assert "Cllr" in report["figures"]
    assert report["scoring"]["score"] == "as-norm1, top 3"
    assert "all pairs of the 3 validation speakers" in report["scoring"]["calibration"]

    main([*trials, "--norm", "s-norm", "--cohort-utterances", "1"])
    assert "cohort: 5 training speakers, 5 of their 10 utterances" in capsys.readouterr().out
    assert len(read_vectors(run / "trials" / "trials" / "cohort.npz").ids) == 5


def test_normalisation_and_calibration_say_what_they_need(
    run: Path, voices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ("evaluate", run, "--trials", voices / "trials", "--audio", voices)
    for top in ((), ("--top-n", 1)):
        said = refused(capsys, *trials, "--norm", "as-norm1", "--calibrate", *top)
        assert "--norm as-norm1 needs --top-n N, 2 or more (300 is usual; at most as many as" in said
    said = refused(capsys, *trials, "--norm", "s-norm", "--top-n", 3)
    assert "--norm s-norm takes the whole cohort: leave --top-n 3 out, or give --norm as-norm1" in said
    said = refused(capsys, *trials, "--norm", "as-norm1", "--top-n", 6)
    assert "the cohort must hold at least 6 members, got 5" in said
    few = ("--norm", "s-norm", "--cohort-utterances", 0)
    assert "--cohort-utterances must be at least 1, got 0" in refused(capsys, *trials, *few)
    assert "--top-n 3 is of as-norm: give --norm" in refused(capsys, *trials, "--top-n", 3)
    for option in (("--calibrate",), ("--top-n", 3), ("--speakers", voices / "utt2spk"), ("--no-intervals",)):
        assert "are of trial lists: give --trials LIST" in refused(capsys, "evaluate", run, *option)


@pytest.fixture
def nothing_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a recording was embedded")

    monkeypatch.setattr(sys.modules["qmargin.scoring.embed"], "embed_utterances", refuse)


@pytest.mark.usefixtures("nothing_is_embedded")
def test_trials_are_checked_before_anything_is_embedded(
    run: Path, voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ("evaluate", run, "--trials", voices / "trials", "--audio", voices)
    normed = (*trials, "--norm", "as-norm1", "--top-n")
    assert "the cohort must hold at least 6 members, got 5" in refused(capsys, *normed, 6)
    assert "--resamples must be at least 40" in refused(capsys, *normed, 3, "--resamples", 5)
    said = refused(capsys, *normed, 3, "--worst", 2)
    assert "TAR at FAR 0.01 needs at least 100 impostor trials, got 24" in said
    assert "can show is 0.0417" in said
    assert "far must be a share in (0, 1], got 0.0" in refused(capsys, *normed, 3, "--worst", 2, "--worst-far", 0)
    (tmp_path / "trials").write_text("0 id0/video/0.wav id0/video/1.wav\n")
    said = refused(capsys, *trials, "--trials", tmp_path / "trials", "--calibrate")
    assert "labelled impostor, but the speakers of id0/video/0.wav id0/video/1.wav say otherwise" in said
    assert "two lists have one name" in refused(capsys, *trials, "--trials", voices / "trials", voices / "trials")
    (tmp_path / "trials").write_text("1 id0/video/0.wav id0/video/9.wav\n0 id0/video/0.wav id1/video/0.wav\n")
    said = refused(capsys, *normed, 3, "--trials", tmp_path / "trials")
    assert "id0/video/9.wav: there is no such file; 1 of the 3 utterances of the trials are missing" in said
    (tmp_path / "gone.scp").write_text("".join(f"id{n}/video/{m}.wav gone\n" for n in range(8, 12) for m in range(2)))
    listed = ("evaluate", run, "--trials", voices / "trials", "--audio-list", tmp_path / "gone.scp")
    assert "gone: there is no such file; 8 of the 8 utterances" in refused(capsys, *listed)


@pytest.mark.usefixtures("nothing_is_embedded")
@pytest.mark.parametrize(
    ("people", "says"),
    [
        (0, "pairs of the validation speakers, got 0 utterances of 0 speakers, which have no pair of one kind: train"),
        (1, "pairs of the validation speakers, got 2 utterances of 1 speakers, which have no pair of one kind"),
    ],
)
def test_calibration_needs_validation_speakers_before_anything_is_embedded(
    voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], people: int, says: str
) -> None:
    source = ["--data.source.path", str(voices / "table.csv"), "--data.source.test", "held"]
    out, held = tmp_path / "run", ["--data.validation-identities", str(people), "--max-steps", "1"]
    main(["train", "speakers-small", "--out", str(out), *source, *TINY.split(), *held])
    trials = ("--trials", voices / "trials", "--audio", voices)
    assert says in refused(capsys, "evaluate", out, *trials, "--calibrate", "--norm", "s-norm")


@pytest.mark.usefixtures("nothing_is_embedded")
def test_options_that_nothing_would_take_are_refused_by_name(
    run: Path, voices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = ("evaluate", run, "--trials", voices / "trials", "--audio", voices)
    for option in (("--split", "test"), ("--same", "Gender"), ("--thumbnails", "--worst", 1)):
        assert "--same and --thumbnails are of a run's own people: leave" in refused(capsys, *trials, *option)
    said = refused(capsys, *trials, "--cohort-utterances", 5)
    assert "--cohort-utterances 5 is of score normalisation: give --norm" in said
    said = refused(capsys, "evaluate", run, "--cohort-utterances", 20)
    assert "--calibrate, --speakers and --no-intervals are of trial lists: give --trials LIST" in said
    for words in (trials, ("evaluate", run)):
        said = refused(capsys, *words, "--worst-far", 0.01)
        assert "--worst-far says which of the worst errors are errors: give --worst N too" in said


def test_a_recording_under_two_names_is_embedded_once(run: Path, voices: Path, tmp_path: Path) -> None:
    names = [f"id{speaker}/video/{utterance}.wav" for speaker in (8, 9, 10) for utterance in range(2)]
    for name in names:
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(voices / name, tmp_path / "audio" / name)
    (tmp_path / "audio/id8/again").mkdir()
    again = tmp_path / "audio/id8/again/0.wav"
    again.symlink_to(tmp_path / "audio/id8/video/0.wav")
    main(["embed", str(run), "--audio", str(tmp_path / "audio"), "--out", str(tmp_path / "a.npz")])
    found = read_vectors(tmp_path / "a.npz")
    assert len(found.ids) == 7
    rows = found.locate(np.array(["id8/again/0.wav", "id8/video/0.wav", "id8/video/1.wav"]), "a.npz")
    np.testing.assert_array_equal(found.vectors[rows[0]], found.vectors[rows[1]])
    assert not np.allclose(found.vectors[rows[0]], found.vectors[rows[2]])
    pairs = list(combinations(["id8/again/0.wav", *names], 2))
    (tmp_path / "list").write_text("".join(f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}\n" for a, b in pairs))
    (tmp_path / "wav.scp").write_text(
        "".join(f"{name} {tmp_path / 'audio' / name}\n" for name in names) + f"id8/again/0.wav {again.resolve()}\n"
    )
    for place in (("--audio", tmp_path / "audio"), ("--audio-list", tmp_path / "wav.scp")):
        words = ("evaluate", run, "--trials", tmp_path / "list", *place, "--resamples", 40)
        main([str(word) for word in words])
        scored = read_scores(run / "trials" / "list" / "scores.txt")
        assert scored.scores[pairs.index(("id8/again/0.wav", "id8/video/0.wav"))] == pytest.approx(1.0, abs=1e-6)


def test_a_cohort_takes_of_each_speaker_evenly() -> None:
    labels = np.array([0, 0, 1, 0, 0, 2, 0, 2])
    assert evenly(labels, 2).tolist() == [0, 2, 3, 5, 7]
    assert evenly(labels, 3).tolist() == [0, 1, 2, 4, 5, 7]
    assert evenly(labels, 9).tolist() == list(range(8))


def test_what_is_exported_embeds_as_the_run(run: Path, voices: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra qmargin[onnx]")
    files = {kind: tmp_path / f"m.{kind}" for kind in ("onnx", "safetensors")}
    card = tmp_path / "m.md"
    main(["export", str(run), *(f"--{kind}={file}" for kind, file in files.items()), f"--card={card}"])
    assert "recordings of 5 speakers" in card.read_text()
    main(["embed", str(run), "--audio", str(voices), "--out", str(tmp_path / "run.npz")])
    expected = read_vectors(tmp_path / "run.npz")
    for file in files.values():
        main(["embed", str(file), "--audio", str(voices), "--out", str(tmp_path / "file.npz")])
        found = read_vectors(tmp_path / "file.npz")
        assert found.ids.tolist() == expected.ids.tolist()
        scale = float(np.abs(expected.vectors).max())
        np.testing.assert_allclose(found.vectors, expected.vectors, rtol=1e-4, atol=1e-4 * scale)


def test_verify_decides_on_two_recordings(run: Path, voices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["threshold", str(run), "--far", "0.2"])
    pair = [str(voices / "id9" / "video" / f"{utterance}.wav") for utterance in range(2)]
    main(["verify", *pair, "--run", str(run)])
    assert "3 people of the validation split" in " ".join(capsys.readouterr().out.split())


def test_the_front_end_of_the_checkpoint_is_the_one_that_embeds(
    run: Path, voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config.json that was edited, or put beside other weights, is not believed."""
    other = shutil.copytree(run, tmp_path / "other")
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"hamming"', '"povey"'))
    assert text != (other / "config.json").read_text()
    said = refused(capsys, "embed", other, "--audio", voices, "--out", tmp_path / "x.npz")
    assert "were not trained on: put back its front-end" in said
    assert "window='hamming'" in said
    (other / "config.json").write_text(text)
    main(["embed", str(other), "--audio", str(voices), "--out", str(tmp_path / "x.npz")])


def test_images_and_recordings_are_not_mixed_up(
    run: Path, voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "x.npz")
    (tmp_path / "picture.png").write_bytes(b"")
    assert "trained on speech: give recordings (--audio)" in refused(capsys, "embed", run, "--images", tmp_path, *out)
    assert "give one of --images, --audio, --audio-list, got none" in refused(capsys, "embed", run, *out)
    both = ("--audio", voices, "--images", tmp_path)
    assert "got --images and --audio" in refused(capsys, "embed", run, *both, *out)
    model = tmp_path / "m.pth"
    assert "takes images: recordings are embedded by a run on speech, or by what qmargin export writes" in refused(
        capsys, "embed", model, "--audio", voices, *out
    )
    main(["export", str(run), "--safetensors", str(tmp_path / "m.safetensors")])
    said = refused(capsys, "embed", tmp_path / "m.safetensors", "--images", tmp_path, *out)
    assert "is a model of speech, and images were asked for" in said
    assert "arcface_torch names the layers of IResNets" in refused(
        capsys, "export", run, "--arcface-torch", tmp_path / "a.pth"
    )
    pictures = ("--worst", 3, "--worst-far", 0.1, "--thumbnails", "--resamples", 40)
    assert "trained on speech, and images were asked for" in refused(capsys, "evaluate", run, *pictures)


def test_trials_need_their_recordings(run: Path, voices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = ("evaluate", run, "--trials", voices / "trials")
    assert "goes with --audio DIR or --audio-list FILE" in refused(capsys, *trials)
    assert "goes with --audio DIR or --audio-list FILE" in refused(capsys, "evaluate", run, "--audio", voices)
    (voices / "short.scp").write_text(f"id8/video/0.wav {voices / 'id8/video/0.wav'}\n")
    said = refused(capsys, *trials, "--audio-list", voices / "short.scp")
    assert "has no recording of 'id10/video/0.wav'; 7 of the 8 utterances" in said
    assert "there is no such file" in refused(capsys, *trials, "--audio", voices / "id0")
    (voices / "pipe.scp").write_text("id8/video/0.wav sph2pipe a.sph |\n")
    assert "commands are not run here" in refused(capsys, *trials, "--audio-list", voices / "pipe.scp")
