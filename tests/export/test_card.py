from pathlib import Path

import pytest

from qmargin.export import model_card, read_trained
from qmargin.training import RunFolder


def test_the_card_holds_counts_recipe_and_the_log(run: RunFolder) -> None:
    card = model_card(run, read_trained(run))
    assert card.startswith("# IResNet, qmargin\n")
    assert "| train split | 300 images of 30 identities |" in card
    assert "| test split | 100 images of 10 identities |" in card
    assert "| step, last row | 2 |" in card
    assert "| loss.final.alpha | 1.5 |" in card
    assert "| batch_size | 60 |" in card
    assert "qmargin recipe faces-orl, loss qmargin, seed 0, training step 2" in card
    assert "None was computed" in card
    assert str(Path.cwd()) not in card


def test_figures_of_the_folder_stand_in_it(run: RunFolder) -> None:
    report = run.path / "metrics-test.md"
    report.write_text("| EER |\n|---|\n| 12.5 |\n")
    try:
        card = model_card(run, read_trained(run))
    finally:
        report.unlink()
    assert "| EER |\n|---|\n| 12.5 |" in card
    assert "None was computed" not in card


@pytest.mark.parametrize("given", ["/home/jo/secret runs/", "../jo/", "runs/", ""])
def test_figures_name_the_run_by_its_folder_alone(run: RunFolder, given: str) -> None:
    report = run.path / "metrics-test.md"
    cell = f"{given}{run.path.name} (best)"
    report.write_text(f"| List | System | EER |\n| --- | --- | --: |\n| /home/jo/lists/dev.txt | {cell} | 1/2 |\n")
    try:
        card = model_card(run, read_trained(run))
    finally:
        report.unlink()
    assert f"\n| dev.txt | {run.path.name} (best) | 1/2 |\n" in card
    assert "jo" not in card.split("## Figures")[1].split("## Limits")[0]


def test_the_trained_network_is_that_of_the_run(run: RunFolder) -> None:
    model = read_trained(run)
    assert model.config.backbone == run.read_config().backbone
    assert model.config.step == 2
    assert not model.network.training


def test_the_card_of_a_run_on_speech_speaks_of_speech(speech_run: RunFolder) -> None:
    card = model_card(speech_run, read_trained(speech_run))
    assert card.startswith("# Ecapa, qmargin\n")
    assert "| train split | 18 recordings of 6 speakers |" in card
    assert "povey window" in card
    assert "maps a recording to a vector" in card
    assert "image" not in card.lower()
