"""A run on speech, judged on trial lists: whose speakers they are, whose weights, and where the figures go."""

import json
import re
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tests.voices import write_voices

from qmargin.calibration import load_calibration, load_thresholds
from qmargin.cli import main
from qmargin.scoring import Embeddings
from qmargin.training import RunFolder
from qmargin.training.model_file import read_model, write_model
from qmargin.training.people import people_of

TINY = """
--data.frames 40 --data.front-end.bins 24 --backbone.bins 24 --backbone.channels 16 --backbone.pooled 24
--backbone.bottleneck 8 --backbone.embedding-dim 12 --batch-size 6 --max-steps 2 --log-every 1 --data.workers 1
--data.validation-identities 3 --validation.every 1 --validation.watch identities.eer
"""
NAMES = [f"id{speaker}/video/{utterance}.wav" for speaker in range(12) for utterance in range(2)]
STRANGERS = {f"id{speaker}" for speaker in range(8, 12)}
Report = dict[str, object]


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight speakers of the run and four strangers; Kaldi's ids, recordings and speakers of the strangers."""
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder, speakers=12, utterances=2)
    rows = [f"{name},{name.split('/')[0]},{'train' if row < 16 else 'other'}" for row, name in enumerate(NAMES)]
    (folder / "table.csv").write_text("\n".join(["path,speaker,split", *rows]) + "\n")
    ids = {f"utt{row}": name for row, name in enumerate(NAMES) if row >= 16}
    (folder / "wav.scp").write_text("".join(f"{key} {folder / name}\n" for key, name in ids.items()))
    (folder / "utt2spk").write_text("".join(f"{key} {name.split('/')[0]}\n" for key, name in ids.items()))
    pairs = [(a, b, ids[a].split("/")[0] == ids[b].split("/")[0]) for a, b in combinations(ids, 2)]
    (folder / "kaldi").write_text("".join(f"{a} {b} {'target' if same else 'nontarget'}\n" for a, b, same in pairs))
    return folder


@pytest.fixture(scope="module")
def run(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a test split, whose best weights are of step 1 and other ones than the newest."""
    out = tmp_path_factory.mktemp("runs") / "run"
    source = ["--data.source.path", str(voices / "table.csv"), "--data.source.left-out", "other"]
    main(["train", "speakers-small", "--out", str(out), *source, *TINY.split()])
    best = RunFolder(out).best
    said, network = read_model(best)
    other = {name: tensor.roll(1, 0) for name, tensor in network.state_dict().items() if tensor.ndim > 1}
    write_model(best, replace(said, step=1), {**network.state_dict(), **other})
    return out


def write_list(path: Path, speakers: set[str]) -> Path:
    """All pairs of the utterances of some speakers."""
    own = [name for name in NAMES if name.split("/")[0] in speakers]
    rows = [f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}\n" for a, b in combinations(own, 2)]
    path.write_text("".join(rows))
    return path


def trials(run: Path, voices: Path, *lists: Path) -> tuple[str, ...]:
    words = ("evaluate", run, "--trials", *lists, "--audio", voices, "--resamples", 40)
    return tuple(map(str, words))


def reports(run: Path, name: str) -> list[Report]:
    found: list[Report] = json.loads((run / "trials" / name / "metrics.json").read_text())["lists"]
    return found


def warnings(run: Path, name: str) -> str:
    (report,) = reports(run, name)
    found = report["warnings"]
    assert isinstance(found, list)
    return "; ".join(found)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def nothing_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a recording was embedded")

    monkeypatch.setattr(sys.modules["qmargin.scoring.embed"], "embed_utterances", refuse)


def test_speakers_of_kaldi_ids_come_from_a_table_or_intervals_are_left_out(
    run: Path, voices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaldi = ("evaluate", run, "--trials", voices / "kaldi", "--audio-list", voices / "wav.scp", "--resamples", 40)
    said = refused(capsys, *kaldi)
    assert "(utt2spk) (--speakers); or leave the intervals out with --no-intervals" in said
    main([*map(str, kaldi), "--speakers", str(voices / "utt2spk")])
    (report,) = reports(run, "kaldi")
    assert (report["speakers"], report["genuine"]) == (4, 4)
    assert "not known" not in warnings(run, "kaldi")
    main([*map(str, kaldi), "--no-intervals"])
    (report,) = reports(run, "kaldi")
    assert (report["speakers"], report["intervals"]) == (None, {})
    assert "the speakers are not known (--speakers), so nobody can say" in warnings(run, "kaldi")
    main([*map(str, kaldi), "--no-intervals", "--speakers", str(voices / "utt2spk")])
    assert "not known" not in warnings(run, "kaldi")


def test_the_table_says_how_many_speakers_are_no_strangers(run: Path, voices: Path, tmp_path: Path) -> None:
    people = people_of(RunFolder(run))
    everyone = write_list(tmp_path / "everyone", set(people["train"]) | set(people["validation"]) | STRANGERS)
    main([*trials(run, voices, everyone)])
    for told in (warnings(run, "everyone"), (run / "trials/everyone/metrics.md").read_text()):
        assert f"TRAINED ON 5 of the 12 speakers ({min(people['train'])!r} for one): the figures are better" in told
        assert f"VALIDATED ON 3 of the 12 speakers ({min(people['validation'])!r} for one)" in told
    main([*trials(run, voices, write_list(tmp_path / "strangers", STRANGERS))])
    assert "ED ON" not in warnings(run, "strangers")


@pytest.mark.usefixtures("nothing_is_embedded")
def test_speakers_of_the_run_are_refused_where_they_are_cohort_or_calibration(
    run: Path, voices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = people_of(RunFolder(run))
    trained = write_list(tmp_path / "trained", {*sorted(people["train"])[:2], *STRANGERS})
    held = write_list(tmp_path / "held", {*people["validation"], *STRANGERS})
    said = refused(capsys, *trials(run, voices, trained), "--norm", "s-norm")
    assert f"must hold nobody of the trial list, and {trained} has 2 training speakers" in said
    assert f"{min(people['train'])!r} for one: take their trials out of the list, or leave --norm out" in said
    said = refused(capsys, *trials(run, voices, trained), "--calibrate", "--norm", "s-norm")
    assert "or leave --norm and --calibrate out" in said
    said = refused(capsys, *trials(run, voices, trained), "--calibrate")
    assert f"calibration is learned for strangers, on people who are not tested, and {trained} has 2 training" in said
    said = refused(capsys, *trials(run, voices, held), "--calibrate", "--norm", "s-norm")
    assert f"{held} has 3 validation speakers of {run}, {min(people['validation'])!r} for one: take" in said
    assert "or leave --calibrate out" in said
    with pytest.raises(AssertionError, match="a recording was embedded"):  # validation speakers are in no cohort
        main([*trials(run, voices, held), "--norm", "s-norm"])


def test_each_list_has_a_folder_and_the_card_has_them_all(run: Path, voices: Path, tmp_path: Path) -> None:
    lists = write_list(tmp_path / "O.txt", STRANGERS), write_list(tmp_path / "E.txt", {"id8", "id9", "id10"})
    for one in lists:
        main([*trials(run, voices, one)])
    main([*trials(run, voices, *lists)])
    assert [report["genuine"] for name in ("O", "E", "O+E") for report in reports(run, name)] == [4, 3, 4, 3]
    card = tmp_path / "m.md"
    main(["export", str(run), "--card", str(card)])
    for name in ("O", "E", "O+E"):
        assert f"trials/{name}/embeddings.npz" in card.read_text()


def test_figures_of_trials_say_that_the_best_weights_made_them(run: Path, voices: Path, tmp_path: Path) -> None:
    folder, card, best = RunFolder(run), tmp_path / "m.md", "weights of the best validation"
    main(["evaluate", str(run), "--split", "validation", "--resamples", "40"])
    calibrated = [*trials(run, voices, write_list(tmp_path / "told", STRANGERS)), "--calibrate"]
    for weights, says in (("best", True), ("newest", False)):
        main([*calibrated, "--weights", weights])
        (report,) = reports(run, "told")
        scoring = report["scoring"]
        assert isinstance(scoring, dict)
        source = load_calibration(run / "trials/told/calibration.json").source
        main(["export", str(run), "--card", str(card)])
        row = re.search(r"^.*\| run/trials/told/embeddings\.npz[^|\n]*\| cosine.*$", card.read_text(), re.MULTILINE)
        assert row is not None
        for text in (scoring["embeddings"], scoring["calibration"], source, row[0]):
            assert (best in text) is says
        own = Embeddings.load(run / "trials/told/embeddings-validation.npz")
        assert own.step == (1 if says else 2)
        newest = Embeddings.load(folder.embeddings("validation"))
        assert newest.step == 2
        assert np.allclose(own.vectors, newest.vectors) is not says


def test_thresholds_are_of_the_weights_that_verify_takes(
    run: Path, voices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["verify", *(str(voices / name) for name in NAMES[18:20]), "--run", str(run)]
    main(["threshold", str(run), "--far", "0.2", "--weights", "best"])
    assert load_thresholds(run / "thresholds.json").step == 1
    said = refused(capsys, *verify)
    assert "are of training step 1, its newest weights of 2: run qmargin threshold" in said
    assert "--weights newest, or verify with the weights that they are of (--weights)" in said
    main([*verify, "--weights", "best"])
    best = capsys.readouterr().out.split(",")[0]
    main(["threshold", str(run), "--far", "0.2"])
    assert "its best weights of 1: run" in refused(capsys, *verify, "--weights", "best")
    main(verify)
    assert capsys.readouterr().out.split(",")[0] != best
