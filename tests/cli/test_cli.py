"""Every command as a user meets it: what it prints, what it leaves, and how it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

import qmargin
from qmargin.cli import COMMANDS, main
from qmargin.cli.compare import loss_text
from qmargin.losses import NormFace, QMargin, Ramp, ScheduledLoss
from qmargin.protocols import Trials
from qmargin.recipes import find_recipe
from qmargin.training.codec import from_json
from qmargin.training.log import COLUMNS

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --epochs 1 --log-every 1
"""
BAD_INPUT = 2


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with status 2, and return what it said."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == BAD_INPUT
    return " ".join(capsys.readouterr().err.split())


def text(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(words)
    return capsys.readouterr().out


def test_without_a_command_every_command_is_introduced(capsys: pytest.CaptureFixture[str]) -> None:
    overview = text(capsys)
    assert all(f"qmargin {name}" in overview for name in COMMANDS)
    assert text(capsys, "--version") == f"qmargin {qmargin.__version__}\n"


def test_an_unknown_command_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown command 'trian'; did you mean 'train'?" in refused(capsys, "trian")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "faces-orl", "--help") if command == "train" else (command, "--help")
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_the_help_of_train_shows_fields_with_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(("train", "faces-orl", "--loss", "cosface", "--help"))
    page = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "--optimizer.learning-rate",
        "Peak learning rate",
        "--loss.final.margin.m",
        "logits per unit of cosine",
    ):
        assert part in page
    assert "faces-orl" in text(capsys, "train", "--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "faces-orll", "--out", "x"], "unknown recipe 'faces-orll'; did you mean 'faces-orl'?"),
        (["train", "faces-orl", "--out", "x", "--loss", "arcfase"], "unknown loss 'arcfase'; did you mean 'arcface'?"),
        (["train", "faces-orl", "--out", "x", "--loss.final.alpha", "3"], "alpha must be a number in [1, 2]"),
        (["train", "faces-orl", "--out", "x", "--loss.final.margin.m", "-0.1"], "must be a number in [0, 2], got -0.1"),
        (["train", "faces-orl", "--out", "x", "--epochs", "0"], "epochs must be an integer >= 1, got 0"),
        (["train", "faces", "--out", "x", "--data.source.train", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere is not a run: it has no config.json"),
        (["compare", "nowhere", "--baseline", "arcface"], "nowhere is not a run"),
        (["info", "nowhere"], "nowhere is not a run"),
        (["demo", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["demo", "--resamples", "3"], "--resamples must be at least 40 for a 95 % interval, got 3"),
        (["bench", "hed"], "qmargin bench measures one of: head; got 'hed'"),
        (["bench", "head", "--classes", "1.5"], "--classes must be a whole number >= 1, written like 2e6"),
        (["bench", "head", "--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["bench", "head", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["bench", "head", "--only", "sparse"], "--only sparse leaves no side: dense float32; dense bfloat16 autocast"),
        (
            ["bench", "head", "--classes", "1e12"],
            "dense float32 at 1,000,000,000,000 classes, dim 512, batch 128 needs prototypes",
        ),
        (
            ["plan", "--classes", "2e6", "--device-memory", "80"],
            "--device-memory must be a size of memory with its unit",
        ),
        (["plan", "--classes", "many", "--device-memory", "80GB"], "--classes must be a whole number >= 1"),
        (["plan", "--classes", "2e6", "--device-memory", "80GB", "--alpha", "3"], "alpha must be a number in [1, 2]"),
        (["train", "faces-orl", "--out", "x", "--device", "gpu"], "cannot compute on device 'gpu'"),
        (["train", "faces-orl", "--out", "x", "--batch-size", "1"], "batch_size must be an integer >= 2, got 1"),
        (["train", "faces-orl", "--out", "x", "--loss", ""], "unknown loss ''"),
        (["train", "faces-orl", "--out", "."], "--out must be a folder of its own"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_field_is_refused_with_the_nearest_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(capsys, "train", "faces-orl", "--out", str(tmp_path / "x"), "--optimizer.learning-rat", "0.1")
    assert "--optimizer.learning-rat" in message
    assert "--optimizer.learning-rate" in message
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two losses, two seeds, trained and evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for loss in ("qmargin", "arcface"):
        for seed in (0, 1):
            path = folder / f"{loss}-{seed}"
            main(["train", "faces-orl", "--out", str(path), "--loss", loss, "--seed", str(seed), *TINY.split()])
            main(["evaluate", str(path), "--resamples", "50"])
            paths.append(path)
    return paths


def test_train_saves_the_effective_config(runs: list[Path]) -> None:
    config = from_json((runs[3] / "config.json").read_text(), "config.json")
    assert (config.loss.name, config.seed, config.batch_size) == ("arcface", 1, 60)


def test_evaluate_leaves_embeddings_scores_and_figures(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    trials = Trials.load(runs[0] / "scores-test.npz")
    assert len(trials.scores) == 100 * 99 // 2
    figures = json.loads((runs[0] / "metrics-test.json").read_text())
    assert figures["subjects"] == 10
    printed = text(capsys, "evaluate", str(runs[0]), "--resamples", "50")
    assert f"{100 * figures['figures']['EER']['estimate']:.2f}" in printed
    assert "450 genuine and 4,500 impostor pairs" in printed
    assert "fewer than 30 false accepts" in printed
    table = list(csv.reader((runs[0] / "metrics-test.csv").read_text().splitlines()))
    assert float(table[1][table[0].index("EER (share)")]) == figures["figures"]["EER"]["estimate"]
    assert figures["fars"]["TAR@FAR=1e-02"] == figures["false_accepts"]["TAR@FAR=1e-02"] / 4500
    assert "\\toprule" in (runs[0] / "metrics-test.tex").read_text()


def test_evaluating_twice_gives_the_same_bytes(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = (runs[0] / "metrics-test.json").read_bytes()
    text(capsys, "evaluate", str(runs[0]), "--resamples", "50")
    assert (runs[0] / "metrics-test.json").read_bytes() == before


def test_compare_prints_the_table_and_writes_one_page(
    runs: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    words = [*map(str, runs), "--baseline", "arcface", "--out", str(page), "--resamples", "50"]
    printed = text(capsys, "compare", *words)
    assert "qmargin" in printed
    assert "arcface" in printed
    html = page.read_text()
    assert html.lower().startswith("<!doctype html>")
    assert "qmargin compare" in html


def test_compare_refuses_a_baseline_that_is_not_there(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "compare", *map(str, runs), "--baseline", "cosface", "--resamples", "50")
    assert "the baseline 'cosface' is none of the compared systems: arcface, qmargin" in message


def test_info_describes_the_installation_and_a_run(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "faces-orl" in text(capsys, "info")
    description = text(capsys, "info", str(runs[0]))
    assert "loss.final.alpha" in description
    assert "support_size" in description


def test_a_loss_is_told_in_a_few_words() -> None:
    loss = ScheduledLoss(name="q", final=QMargin(1.5, 0.1, 6), alpha=Ramp(start=1.0, end=0.5))
    assert loss_text(loss) == "alpha 1.5, scale 6, ReferenceMargin(0.1), alpha from 1 over 0% to 50% of training"
    assert loss_text(ScheduledLoss(name="n", final=NormFace(32.0))) == "alpha 1, scale 32"


def test_resuming_needs_no_flag_again_and_scores_of_an_older_step_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "run [v2]")  # brackets are no markup
    main(["train", "faces-orl", "--out", out, *TINY.split()])
    main(["evaluate", out, "--resamples", "50"])
    main(["train", "faces-orl", "--out", out, "--resume"])
    assert f"'{out}'" in capsys.readouterr().out.replace("\n", "")
    message = refused(capsys, "train", "faces-orl", "--loss", "arcface", "--out", out, "--resume")
    assert "holds a run of recipe faces-orl with loss qmargin, asked was faces-orl with arcface" in message
    with (tmp_path / "run [v2]" / "log.csv").open("a") as log:  # as training on would do
        log.write(log_line_of_step_99())
    message = refused(capsys, "compare", out, "--baseline", "qmargin", "--resamples", "50")
    assert "are of training step 5, its log ends at step 99: finish training" in message


def log_line_of_step_99() -> str:
    return ",".join(["99", *["1"] * (len(COLUMNS) - 1)]) + "\n"


def test_the_demo_trains_compares_and_goes_on_where_it_stopped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a recipe of one epoch: three losses under two seeds, a table, a page; a second call trains nothing again."""
    recipe = find_recipe("faces-orl")
    quick = replace(recipe, config=lambda loss: replace(recipe.config(loss), epochs=1))
    monkeypatch.setattr("qmargin.cli.demo.find_recipe", lambda _name: quick)
    words = ["demo", "--out", str(tmp_path / "demo"), "--seeds", "2", "--resamples", "50"]
    printed = text(capsys, *words)
    assert all(loss in printed for loss in ("qmargin", "arcface", "cosface", "illustration"))
    assert (tmp_path / "demo" / "report.html").is_file()
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.safetensors")}
    assert len(weights) == 6
    text(capsys, *words)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
