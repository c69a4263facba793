"""`qmargin ijb META --run RUN --images DIR` from end to end: loose crops, landmarks, a trained run, the figures."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qmargin.cli import main
from qmargin.data import FACE_TEMPLATE, read_orl
from qmargin.protocols import read_ijb, read_template_list
from qmargin.protocols.ijb_synthetic import SyntheticIjb

COLOUR_112 = """
--data.image.height 112 --data.image.width 112 --data.image.channels 3 --data.image.fit resize --backbone.height 112
--backbone.input-width 112 --backbone.channels 3 --backbone.width 4 --backbone.embedding-dim 16 --batch-size 60
--epochs 1 --log-every 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "colour"
    main(["train", "faces-orl", "--out", str(path), "--loss", "qmargin", *COLOUR_112.split()])
    return path


@pytest.fixture(scope="module")
def ijb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An invented set whose images are ORL faces, shrunk or grown and put somewhere into a grey picture."""
    folder = tmp_path_factory.mktemp("ijb")
    SyntheticIjb(subjects=8, probes=24, images=60, genuine=20, impostor=120, dim=2).write(folder)
    lists = read_ijb(folder / "meta")
    parts = [read_template_list(path) for path in sorted((folder / "meta").glob("*.csv"))]
    subject_of = {int(t): int(s) for part in parts for t, s in zip(part.templates, part.subjects, strict=True)}
    faces, generator = read_orl(), np.random.default_rng(0)
    (folder / "loose_crop").mkdir()
    rows = []
    for place, name in enumerate(lists.images):
        subject = subject_of[int(lists.template_ids[lists.templates[place]])]
        scale, shift = generator.uniform(0.7, 1.3), generator.uniform(0, 30, size=2).round()
        side = round(112 * scale)
        face = Image.open(faces.root / faces.paths[10 * subject + place % 10]).convert("RGB").resize((side, side))
        picture = Image.new("RGB", (200, 180), (90, 90, 90))
        picture.paste(face, (int(shift[0]), int(shift[1])))
        picture.save(folder / "loose_crop" / name, format="PNG")
        points = " ".join(f"{value:.3f}" for value in (FACE_TEMPLATE * scale + shift).ravel())
        rows.append(f"{name} {points} {lists.detector_scores[place]}\n")
    (folder / "meta" / "ijbc_name_5pts_score.txt").write_text("".join(rows))
    return folder


def judge(ijb: Path, out: Path, *features: str) -> dict[str, Any]:
    main(["ijb", str(ijb / "meta"), *features, "--out", str(out), "--resamples", "40", "--presets", "tface", "adaface"])
    record: dict[str, Any] = json.loads((out / "ijb.json").read_text())
    return record


def test_a_run_embeds_the_loose_crops_and_is_judged(
    run: Path, ijb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = judge(ijb, tmp_path, "--run", str(run), "--images", str(ijb / "loose_crop"))
    assert record["system"] == str(run)
    assert [report["preset"] for report in record["verification"]] == ["tface", "adaface"]
    assert "TAR@1e-02" in capsys.readouterr().out
    with np.load(tmp_path / "features.npz") as kept:
        assert kept["features"].shape == kept["mirrors"].shape == (60, 16)
    lines = list(csv.reader((tmp_path / "ijb.csv").read_text().splitlines()))
    points = record["verification"][0]["points"]
    assert isinstance(points, list)
    tar = next(p["tar"] for p in points if (p["far_target"], p["rule"]) == (1e-1, "conservative"))
    assert float(lines[1][lines[0].index("TAR@1e-01 (share)")]) == tar
    assert tar > 0.3  # the same ten pictures a person: even an untrained backbone knows some again
    again = judge(ijb, tmp_path / "again", "--features", str(tmp_path / "features.npz"))
    assert again["verification"] == record["verification"]
    written = {path.name for path in tmp_path.iterdir()}
    assert {"ijb.html", "ijb-det.svg", "ijb-det.png", "ijb-roc.svg", "ijb-roc.png", "ijb.tex", "ijb.md"} <= written


def test_a_missing_crop_is_named_before_anything_is_embedded(
    run: Path, ijb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ijb", str(ijb / "meta"), "--run", str(run), "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(words)
    message = " ".join(capsys.readouterr().err.split())
    assert "60 of the 60 images of the lists are not in" in message
    assert "is that the folder of loose crops?" in message
