"""Trial lists, scores, calibrations, thresholds and decisions, as a user of the command line meets them."""

import json
from pathlib import Path

import numpy as np
import pytest

from qmargin.calibration import load_calibration, load_thresholds
from qmargin.cli import main
from qmargin.data import OrlFaces
from qmargin.metrics import eer, min_dcf
from qmargin.protocols.score_files import read_scores
from qmargin.protocols.trial_lists import read_trials
from qmargin.scoring.vector_files import VectorSet, read_vectors

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --epochs 1 --log-every 1
"""
SPEAKERS, UTTERANCES, DIM = 20, 6, 16


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings, trials, durations and a cohort: people with a direction each."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    people = np.repeat(generator.normal(size=(SPEAKERS, DIM)), UTTERANCES, axis=0)
    ids = [f"id{k // UTTERANCES:02d}/u{k % UTTERANCES}.wav" for k in range(len(people))]
    seconds = generator.uniform(1, 9, size=len(ids))
    vectors = people + 2.4 / np.sqrt(seconds)[:, None] * generator.normal(size=people.shape) + 0.5
    VectorSet(np.array(ids), vectors.astype(np.float32)).save(folder / "e.npz")
    first, second = np.triu_indices(len(ids), k=1)
    same = [ids[i][:4] == ids[j][:4] for i, j in zip(first, second, strict=True)]
    rows = [(int(y), ids[i], ids[j]) for i, j, y in zip(first, second, same, strict=True)]
    (folder / "trials").write_text("".join(f"{y} {a} {b}\n" for y, a, b in rows))
    (folder / "utt2dur").write_text("".join(f"{name} {s:.2f}\n" for name, s in zip(ids, seconds, strict=True)))
    strangers = np.repeat(generator.normal(size=(40, DIM)), 2, axis=0)
    names = np.array([f"c{k // 2}-{k % 2}" for k in range(80)])
    cohort = strangers + 0.5 + generator.normal(size=strangers.shape)
    VectorSet(names, cohort.astype(np.float32)).save(folder / "cohort.npz")
    (folder / "utt2spk").write_text("".join(f"{name} {name.split('-')[0]}\n" for name in names))
    return folder


def score(corpus: Path, out: Path, *more: str) -> dict[str, object]:
    words = ["score", str(corpus / "trials"), "--embeddings", str(corpus / "e.npz"), "--out", str(out)]
    main([*words, "--resamples", "40", *more])
    (report,) = json.loads((out / "metrics.json").read_text())["lists"]
    assert isinstance(report, dict)
    return report


def test_score_writes_scores_and_the_figures_of_those_scores(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = score(corpus, tmp_path)
    scored = read_scores(tmp_path / "scores.txt")
    figures, intervals = report["figures"], report["intervals"]
    assert isinstance(figures, dict)
    assert isinstance(intervals, dict)
    assert figures["EER"] == eer(scored.scores.astype(np.float32), scored.labels)
    assert figures["minDCF(0.05)"] == min_dcf(scored.scores.astype(np.float32), scored.labels, 0.05)
    assert list(figures) == ["EER", "minDCF(0.01)", "minDCF(0.05)"]
    assert all(intervals[name]["low"] <= value <= intervals[name]["high"] for name, value in figures.items())
    assert report["speakers"] == SPEAKERS
    vectors = {name: row / np.linalg.norm(row) for name, row in zip(*vectors_of(corpus), strict=True)}
    trials = read_trials(corpus / "trials")
    one, other = (vectors[trials.utterances[side[77]]] for side in (trials.first, trials.second))
    assert scored.scores[77] == pytest.approx(one @ other, abs=1e-6)
    printed = capsys.readouterr().out
    assert f"{100 * figures['EER']:.3f}" in printed
    assert "120 utterances; not a published list known here" in printed
    page = (tmp_path / "metrics.md").read_text()
    assert all(f" {name} |" in page.splitlines()[2] for name in ("EER (%)", "minDCF(0.01)", "minDCF(0.05)"))
    assert f"{100 * figures['EER']:.3f} [" in page


def vectors_of(corpus: Path) -> tuple[list[str], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    found = read_vectors(corpus / "e.npz")
    return found.ids.tolist(), found.vectors


def test_mean_norm_calibration_and_durations_work_together(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    norm = ["--mean", str(corpus / "cohort.npz"), "--norm", "as-norm1", "--cohort", str(corpus / "cohort.npz")]
    norm += ["--cohort-speakers", str(corpus / "utt2spk"), "--top-n", "10", "--no-intervals"]
    report = score(corpus, tmp_path / "normed", *norm)
    assert "as-norm1, the 10 nearest of 40 cohort members" in str(report["scoring"])
    assert (report["speakers"], report["intervals"]) == (None, {})
    durations = ["--durations", str(corpus / "utt2dur")]
    made = tmp_path / "calibration.json"
    main(["calibrate", str(tmp_path / "normed" / "scores.txt"), "--out", str(made), *durations])
    assert "min log duration" in capsys.readouterr().out
    assert load_calibration(made).columns == ("score", "min log duration", "max log duration")
    judged = score(corpus, tmp_path / "ratios", *norm, *durations, "--calibration", str(made))
    figures = judged["figures"]
    assert isinstance(figures, dict)
    assert list(figures) == ["EER", "minDCF(0.01)", "minDCF(0.05)", "actDCF(0.01)", "Cllr", "minCllr"]
    assert figures["minCllr"] <= figures["Cllr"] < figures["minCllr"] + 0.1
    words = ["score", str(corpus / "trials"), "--embeddings", str(corpus / "e.npz"), "--out", str(tmp_path / "x")]
    message = refused(capsys, *words, *norm, "--calibration", str(made))
    assert "this calibration uses durations: give --durations" in message


def test_the_mean_is_taken_off_both_sides(corpus: Path, tmp_path: Path) -> None:
    score(corpus, tmp_path, "--mean", str(corpus / "cohort.npz"), "--no-intervals")
    mean = read_vectors(corpus / "cohort.npz").vectors.astype(np.float64).mean(axis=0)
    vectors = {name: (row - mean) / np.linalg.norm(row - mean) for name, row in zip(*vectors_of(corpus), strict=True)}
    trials = read_trials(corpus / "trials")
    one, other = (vectors[trials.utterances[side[77]]] for side in (trials.first, trials.second))
    assert read_scores(tmp_path / "scores.txt").scores[77] == pytest.approx(one @ other, abs=1e-6)


def test_norms_are_a_quality_measure_too(corpus: Path, tmp_path: Path) -> None:
    score(corpus, tmp_path / "plain", "--no-intervals")
    made = tmp_path / "calibration.json"
    scores = str(tmp_path / "plain" / "scores.txt")
    main(["calibrate", scores, "--out", str(made), "--norms", str(corpus / "e.npz"), "--prior", "0.05"])
    report = score(corpus, tmp_path / "ratios", "--calibration", str(made))
    intervals = report["intervals"]
    assert isinstance(intervals, dict)
    assert intervals["Cllr"]["low"] < intervals["Cllr"]["high"]
    assert load_calibration(made).prior == 0.05


def test_what_does_not_fit_together_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", str(corpus / "trials"), "--embeddings", str(corpus / "e.npz"), "--out", str(tmp_path / "out")]
    assert "--norm and --cohort go together" in refused(capsys, *words, "--norm", "s-norm")
    cohort = ["--norm", "as-norm1", "--cohort", str(corpus / "cohort.npz")]
    assert "--norm as-norm1 needs --top-n N, 2 or more (300 is" in refused(capsys, *words, *cohort)
    cohort[1] = "s-norm"
    assert "leave --top-n 5 out, or give --norm as-norm1" in refused(capsys, *words, *cohort, "--top-n", "5")
    few = tmp_path / "few.npz"
    found = read_vectors(corpus / "e.npz")
    VectorSet(found.ids[1:], found.vectors[1:]).save(few)
    words[3] = str(few)
    message = refused(capsys, *words)
    assert "has no embedding of 'id00/u0.wav'; 1 of 120 utterances are missing" in message
    flat = tmp_path / "flat"
    flat.write_text("a b target\na c nontarget\n")
    assert "no folder in it that names the speaker" in refused(capsys, "score", str(flat), *words[2:])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    main(["train", "faces-orl", "--out", str(out), "--data.validation-identities", "5", *TINY.split()])
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four test images of two people, as files."""
    folder = tmp_path_factory.mktemp("images")
    manifest = OrlFaces().read().subset("test")
    for index in (0, 1, 10, 11):
        target = folder / manifest.paths[index]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((manifest.root / manifest.paths[index]).read_bytes())
    return folder


def test_a_threshold_is_learned_saved_and_decides(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = sorted(images.rglob("*.*"))[:3]
    words = ("verify", str(first), str(other), "--run", str(run))
    (run / "thresholds.json").unlink(missing_ok=True)
    assert "learn them with qmargin threshold" in refused(capsys, *words)
    main(["threshold", str(run), "--far", "0.1"])
    main(["threshold", str(run), "--far", "0.02"])
    found = load_thresholds(run / "thresholds.json")
    assert [point.far_wanted for point in found.points] == [0.02, 0.1]
    assert (found.split, found.subjects) == ("validation", 5)
    assert "fewer than 30" in capsys.readouterr().out
    for pair in ((first, second), (first, other)):
        main(["verify", *map(str, pair), "--run", str(run), "--far", "0.1"])
        printed = capsys.readouterr().out
        said, threshold = (float(printed.split(word)[1].split()[0].strip(",:")) for word in ("score ", "threshold "))
        assert threshold == pytest.approx(found.at(0.1).threshold, abs=1e-4)
        assert ("same person" in printed) == (said >= threshold)
        assert "FAR 0.1 wanted" in printed
        assert f"of {found.points[0].impostors:,} impostor trials accepted" in printed
    assert "no threshold was learned for FAR 1e-05, only for 0.02, 0.1" in refused(capsys, *words, "--far", "1e-5")
    assert "needs at least 100000 impostor trials" in refused(capsys, "threshold", str(run), "--far", "1e-5")
    assert "are one file" in refused(capsys, "verify", str(first), str(first), "--run", str(run))
    assert "no file at nothing.png" in refused(capsys, "verify", str(first), "nothing.png", "--run", str(run))


def test_thresholds_of_other_weights_are_refused(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["threshold", str(run), "--far", "0.1"])
    path = run / "thresholds.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"step": fields["step"] + 1}))
    first, second = sorted(images.rglob("*.*"))[:2]
    message = refused(capsys, "verify", str(first), str(second), "--run", str(run))
    assert "are of training step" in message
    assert "run qmargin threshold" in message


def test_embed_gives_what_verify_compares(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.npz"
    main(["embed", str(run), "--images", str(images), "--out", str(out)])
    found = read_vectors(out)
    assert found.ids.tolist() == sorted(file.relative_to(images).as_posix() for file in images.rglob("*.*"))
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    main(["threshold", str(run), "--far", "0.1"])
    capsys.readouterr()
    main(["verify", *(str(images / name) for name in found.ids[:2]), "--run", str(run)])
    assert f"score {unit[0] @ unit[1]:.3f}" in capsys.readouterr().out
    script = tmp_path / "model.pt"
    message = refused(capsys, "embed", str(script), "--images", str(images), "--out", str(out))
    assert "may run code of its author; export it to ONNX (torch.onnx.export), or give --trust-code" in message
    message = refused(capsys, "embed", str(script), "--trust-code", "--images", str(images), "--out", str(out))
    assert "give --input-size CHANNELS HEIGHT WIDTH" in message
    message = refused(capsys, "embed", "model.pth", "--images", str(images), "--out", str(out))
    assert "model.pth is not opened: a pickled model may run code of its author" in message
    message = refused(capsys, "embed", str(run), "--trust-code", "--images", str(images), "--out", str(out))
    assert "--trust-code and --input-size are for TorchScript models (.jit, .pt, .ts), got" in message
    assert "--out must end in .npz" in refused(capsys, "embed", str(run), "--images", str(images), "--out", "x.npy")
    assert "no image under" in refused(capsys, "embed", str(run), "--images", str(tmp_path), "--out", str(out))
