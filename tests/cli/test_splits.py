"""What a run can be judged on: its held-out people, and the ways out where it has none."""

from pathlib import Path

import pytest

from qmargin.cli import main
from qmargin.cli._splits import check_split, evaluation_of
from qmargin.recipes import find_recipe
from qmargin.training import RunFolder
from qmargin.training.codec import to_json


def run_of(path: Path, recipe: str, *splits: str) -> RunFolder:
    """A folder with a config and a manifest of two people a split."""
    folder = RunFolder(path / "a run")
    folder.path.mkdir()
    folder.config.write_text(to_json(find_recipe(recipe).with_loss()))
    rows = [f"{split}{n}/{m}.png,{split}{n},{split}\n" for split in splits for n in range(2) for m in range(3)]
    folder.manifest.write_text("path,identity,split\n" + "".join(rows))
    return folder


@pytest.mark.parametrize(
    ("recipe", "splits", "command"),
    [
        ("speakers-small", ("train", "validation", "test"), "qmargin evaluate {}"),
        ("speakers-small", ("train", "validation"), "qmargin evaluate {} --split validation"),
        ("speakers-small", ("train",), "qmargin evaluate {} --trials LIST --audio DIR"),
        ("faces-ms1mv3-r50", ("train",), "qmargin pairs {} LIST"),
    ],
)
def test_the_next_command_is_one_that_the_run_can_take(
    tmp_path: Path, recipe: str, splits: tuple[str, ...], command: str
) -> None:
    folder = run_of(tmp_path, recipe, *splits)
    assert evaluation_of(folder) == command.format(f"'{folder.path}'")


@pytest.mark.parametrize(
    ("recipe", "splits", "asked", "ways"),
    [
        (
            "speakers-small",
            ("train", "validation"),
            "test",
            "its people are train 2, validation 2. Judge it with --split validation (its 2) or --trials LIST --audio "
            "DIR, or train with people to judge on (--data.source.test)",
        ),
        ("speakers-small", ("train",), "test", "its people are train 2. Judge it with --trials LIST --audio DIR, or"),
        (
            "faces-ms1mv3-r50",
            ("train",),
            "test",
            "with qmargin pairs RUN LIST, or train with people to judge on (a test",
        ),
        (
            "speakers-small",
            ("train", "test"),
            "validation",
            "with --split test (its 2) or --trials LIST --audio DIR, or train with people to judge on "
            "(--data.validation-identities)",
        ),
    ],
)
def test_a_split_that_holds_nobody_is_refused_with_the_ways_out(
    tmp_path: Path, recipe: str, splits: tuple[str, ...], asked: str, ways: str
) -> None:
    with pytest.raises(ValueError, match="a run is in the split") as caught:
        check_split(run_of(tmp_path, recipe, *splits), asked)
    assert ways in str(caught.value)


def test_evaluate_asks_for_a_split_before_it_reads_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_of(tmp_path, "speakers-small", "train", "validation")
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder.path)])
    assert "is in the split 'test'; its people are train 2, validation 2." in " ".join(capsys.readouterr().err.split())
    check_split(folder, "validation")
