"""`qmargin clean` on faces whose labels were spoiled on purpose."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from qmargin.backbones import IResNetConfig
from qmargin.cli import main
from qmargin.data import ImageFolders, read_orl
from qmargin.recipes import find_recipe
from qmargin.training import train

PEOPLE, OTHERS = 14, 2
WRONG = {("s5", "1.pgm"), ("s9", "4.pgm")}  # images that are filed under s7


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 14 people, one of them under two names, and two images under another's name."""
    root = tmp_path_factory.mktemp("faces")
    faces = read_orl()
    for place, path in enumerate(faces.paths):
        person, name = path.split("/")[-2:]
        number = int(person[1:])
        if number > PEOPLE + OTHERS:
            continue
        target = root / ("train" if number <= PEOPLE else "test") / person
        if person == "s3" and place % 2:
            target = root / "train" / "s3-again"
        if (person, name) in WRONG:
            target, name = root / "train" / "s7", f"from-{person}.pgm"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(faces.root / path, target / name)
    config = find_recipe("faces-orl").with_loss("normface")
    small = replace(
        config,
        data=replace(config.image_data, source=ImageFolders(train=root / "train", test=root / "test")),
        backbone=IResNetConfig(blocks=(1, 1, 1, 1), width=8, embedding_dim=32, height=28, input_width=23, channels=1),
        batch_size=28,
        epochs=10,  # a small set learned by heart has its duplicates pushed apart
        log_every=50,
    )
    return train(small, root / "run").path


def test_one_person_under_two_names_and_images_under_a_wrong_name_come_first(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["clean", str(spoiled), "--cosine", "0.2", "--gap", "0.02"])
    shown = capsys.readouterr().out
    pairs, images = read(spoiled / "clean-identities.csv"), read(spoiled / "clean-images.csv")
    assert {"s3", "s3-again"} in [{row["First identity"], row["Second identity"]} for row in pairs[:3]]
    assert {(row["Image"], row["Labelled"], row["Nearer to"]) for row in images[:2]} == {
        ("train/s7/from-s5.pgm", "s7", "s5"),
        ("train/s7/from-s9.pgm", "s7", "s9"),
    }
    for rows, column, least in ((pairs, "Cosine (cosine)", 0.2), (images, "Gap (cosine)", 0.02)):
        values = [float(row[column]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert min(values) >= least
    counts = {row["First identity"]: row["First images (count)"] for row in pairs}
    assert counts.get("s3", "5") == "5"
    assert f"Identities that look like one: {len(pairs)}" in shown


def test_where_nothing_is_found_it_says_where_to_look(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["clean", str(spoiled), "--no-images", "--out", str(tmp_path / "out"), "--cosine"]
    main([*words, "1"])
    assert "a lower --cosine or --gap lists more" in capsys.readouterr().out
    assert read(tmp_path / "out" / "clean-identities.csv") == []
    main([*words, "-1"])
    assert "lists more" not in capsys.readouterr().out


def test_without_images_pairs_alone_are_listed(spoiled: Path, tmp_path: Path) -> None:
    main(["clean", str(spoiled), "--no-images", "--cosine", "-1", "--most", "7", "--out", str(tmp_path / "out")])
    assert len(read(tmp_path / "out" / "clean-identities.csv")) == 7
    assert not (tmp_path / "out" / "clean-images.csv").exists()
