"""Options of training as flags: figures on the way, a start from elsewhere, and resuming without saying them again."""

import json
from pathlib import Path

import pytest
from tests.voices import write_voices

from qmargin.cli import main
from qmargin.recipes import FACE_SETS
from qmargin.training.log import read_log

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --max-steps 4 --log-every 1
"""

MORE = """
--validation.every 2 --validation.watch identities.eer --data.validation-identities 6 --averaging.ema 0.3
--gradient-accumulation 2 --loss qmargin-support --precision float16
"""


def test_a_run_validates_keeps_its_best_weights_and_hands_them_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", "faces-orl", "--out", "first", *TINY.split(), *MORE.split()])
    assert [row["step"] for row in read_log(Path("first/validation.csv"))] == [2, 4]
    main(["train", "faces-orl", "--out", "first", "--resume"])
    tail = ["--data.source.test-identities", "20", "--init-from", "first/best.safetensors"]
    main(["train", "faces-orl", "--out", "second", *TINY.split(), *tail])
    config = json.loads(Path("second/config.json").read_text())
    assert config["init_from"] == str(tmp_path / "first" / "best.safetensors")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "faces-orl", "--out", "third", *TINY.split(), "--validation.every", "2"])
    assert "nothing to validate on" in " ".join(capsys.readouterr().err.split())


def test_the_data_may_be_of_another_kind_than_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = "--data.source.kind SyntheticIdentities --data.source.identities 40 --data.source.samples 80"
    main(["train", "faces-orl", "--out", "made", *TINY.split(), *made.split()])
    source = json.loads(Path("made/config.json").read_text())["data"]["source"]
    assert (source["kind"], source["identities"], source["test_identities"]) == ("SyntheticIdentities", 40, 100)
    again = ["train", "faces-orl", "--out", "made", "--resume", "--data.source.kind"]
    main([*again, "SyntheticIdentities"])
    assert json.loads(Path("made/config.json").read_text())["data"]["source"] == source  # resumed, not begun anew
    refused = {
        "OrlFaces": "a run with --data.source.kind SyntheticIdentities, asked was OrlFaces: resume it as it is",
        "RecordFiles": "unknown --data.source.kind 'RecordFiles'; did you mean 'RecordFile'? known: OrlFaces, Image",
    }
    for kind, message in refused.items():
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main([*again, kind])
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["train", "faces-orl", "--out", "other", "--data.source.kind", "RecordFile"])
    assert "--data.source.path" in capsys.readouterr().err  # a field without a default has to be said
    with pytest.raises(SystemExit):
        main(["train", "speakers-small", "--data.source.kind", "KaldiFolders", "--help"])
    assert "--data.source.train PATH" in capsys.readouterr().out


def test_lists_of_a_recipe_that_are_not_there_are_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.rec").touch()
    train = ("train", "faces-ms1mv3-r18", "--out", "run", "--data.source.path", "own.rec")
    said = refused(capsys, *train)
    assert f"3 of the validation.bins of this run are not there: {tmp_path / 'ms1mv3' / 'lfw.bin'}, " in said
    assert "with --validation.bins A B, or train without validation: --validation.every None --validation.bins" in said
    said = refused(capsys, *train, "--validation.every", "None")
    assert "or set none of them: --validation.bins without a file," in said.replace("│ ", "")
    said = refused(capsys, *train, "--validation.every", "None", "--validation.bins")  # which goes on to the data
    assert "own.rec is empty" in said


def test_resuming_what_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    again = ["train", "faces-orl", "--out", "first", "--resume", *TINY.split(), "--max-steps", "1"]
    main(again)
    assert "\nno run in first yet: starting from step 0\n" in capsys.readouterr().out
    main(again)
    assert "starting from step 0" not in capsys.readouterr().out
    Path("first/checkpoint.safetensors").unlink()
    Path("first/log.csv").unlink()
    main(again)
    assert "\nno checkpoint in first yet: starting from step 0\n" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    return " ".join("".join(capsys.readouterr()).split())


def test_noise_may_be_of_another_kind_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voices(tmp_path / "voices", speakers=4)
    rows = [f"voices/id{n // 2}/video/{n % 2}.wav,id{n // 2},train" for n in range(8)]
    (tmp_path / "table.csv").write_text("\n".join(["path,speaker,split", *rows]) + "\n")
    noise = "--data.augmentation.noise"
    few = ["--max-steps", "1", "--batch-size", "4"]
    train = ("train", "speakers-small", "--data.source.path", tmp_path / "table.csv", *few)
    out = ("--out", tmp_path / "run")
    main([str(word) for word in (*train, *out, f"{noise}.kind", "None", "--data.feature-cache", tmp_path / "kept")])
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert stored["augmentation"]["noise"] is None
    assert list((tmp_path / "kept").iterdir())
    said = refused(capsys, "train", "speakers-small", *out, "--resume", f"{noise}.kind", "SyntheticNoise")
    assert f"a run with {noise}.kind None, asked was SyntheticNoise: resume it as it is" in said
    assert f"{noise}.musan PATH" in refused(capsys, *train, "--out", tmp_path / "x", f"{noise}.kind", "RecordedNoise")
    said = refused(capsys, *train, f"{noise}.kind", "Noise")
    assert f"unknown {noise}.kind 'Noise'" in said
    assert "known: RecordedNoise, SyntheticNoise, None" in said
    assert f"the recipe faces-orl has no data.augmentation.noise: leave {noise}.kind out" in refused(
        capsys, "train", "faces-orl", f"{noise}.kind", "None"
    )
    said = refused(capsys, *train, "--help")
    assert f"{noise}.kind RecordedNoise|SyntheticNoise|None says which noise is added, here SyntheticNoise;" in said
    assert "noise.kind" not in refused(capsys, "train", "faces-orl", "--help")


def test_missing_noise_is_refused_before_there_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "train", "voxceleb-resnet34", "--out", tmp_path / "run")
    assert "RecordedNoise: no folder" in said
    assert "--data.augmentation.noise.kind SyntheticNoise needs no set, None adds no noise" in said
    assert not (tmp_path / "run").exists()


def test_the_list_of_recipes_has_a_row_for_each_public_set(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train"])
    said = capsys.readouterr().out
    rows = [line.split()[0] for line in said.splitlines() if line.startswith("  faces-")]
    assert [row for row in rows if row.endswith("-NETWORK")] == [f"faces-{name}-NETWORK" for name in FACE_SETS]
    assert len(rows) == len(FACE_SETS) + 2  # and two more of faces with a suffix
    assert "NETWORK is one of r18, r34, r50, r100, r200, mobilefacenet" in said
    assert "faces-glint360k" not in said.split("Losses of")[1]  # the same names as those of others
