"""Worst errors as a user asks for them: of a run's people with pictures, of a trial list by name."""

import base64
import csv
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmargin.cli import main
from qmargin.cli._thumbnails import MOST_BYTES, SIDE, thumbnail
from qmargin.protocols import Trials

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --epochs 1 --log-every 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "faces-orl", "--out", str(path), "--loss", "qmargin", *TINY.split()])
    return path


def test_a_run_shows_its_worst_pairs_and_pictures_only_on_request(run: Path) -> None:
    main(["evaluate", str(run), "--resamples", "40", "--worst", "4"])
    lines = list(csv.reader((run / "metrics-test-worst.csv").read_text().splitlines()))
    trials = Trials.load(run / "scores-test.npz")
    kinds = [(line[1], float(line[lines[0].index("Score (score)")])) for line in lines[1:]]
    assert [score for kind, score in kinds if kind == "impostor"] == sorted(trials.scores[~trials.labels])[:-5:-1]
    assert [score for kind, score in kinds if kind == "genuine"] == sorted(trials.scores[trials.labels])[:4]
    assert all((line[4] == line[5]) == (line[1] == "genuine") for line in lines[1:])
    assert all(line[2].startswith(f"{line[4]}/") for line in lines[1:])  # a path, and whose it is
    assert "<img" not in (run / "metrics-test.html").read_text()
    main(["evaluate", str(run), "--resamples", "40", "--worst", "4", "--thumbnails"])
    assert (run / "metrics-test.html").read_text().count("<img") == 16


@pytest.mark.parametrize("shape", [(112, 92, 1), (28, 23, 3), (600, 900, 3)])
def test_a_thumbnail_is_a_small_jpeg_of_that_picture(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    head, _, body = thumbnail(pixels).partition(",")
    assert head == "data:image/jpeg;base64"
    content = base64.b64decode(body)
    assert len(content) <= MOST_BYTES
    with Image.open(BytesIO(content)) as picture:
        assert max(picture.size) <= SIDE
        assert picture.size[0] / picture.size[1] == pytest.approx(shape[1] / shape[0], rel=0.02)


def test_a_trial_list_names_its_worst_trials(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    ids = np.array([f"p{k // 4}/{k}.wav" for k in range(48)])
    vectors = np.repeat(generator.normal(size=(12, 8)), 4, axis=0) + generator.normal(size=(48, 8))
    np.savez(tmp_path / "e.npz", ids=ids, embeddings=vectors.astype(np.float32))
    pairs = [(a, b) for a in range(48) for b in range(a + 1, 48)]
    for name, kept in (("one", pairs[::2]), ("two", pairs[1::2])):
        rows = [f"{int(a // 4 == b // 4)} {ids[a]} {ids[b]}\n" for a, b in kept]
        (tmp_path / name).write_text("".join(rows))
    lists = [str(tmp_path / "one"), str(tmp_path / "two")]
    words = ["--embeddings", str(tmp_path / "e.npz"), "--out", str(tmp_path / "out"), "--resamples", "40"]
    main(["score", *lists, *words, "--worst", "3", "--worst-far", "0.1"])
    out = tmp_path / "out"
    for name in ("one", "two"):
        lines = list(csv.reader((out / f"metrics-worst-{name}.csv").read_text().splitlines()))
        assert len(lines) == 7
        words_of = [row.split() for row in (out / f"scores-{name}.txt").read_text().splitlines()]
        scores = {(row[0], row[1]): float(row[2]) for row in words_of}
        highest = max(score for (a, b), score in scores.items() if a.split("/")[0] != b.split("/")[0])
        assert scores[lines[1][2], lines[1][3]] == pytest.approx(highest)
    record = json.loads((out / "metrics.json").read_text())
    assert [one["trials"].split(":")[0] for one in record["lists"]] == lists
    assert (out / "metrics.md").read_text().count("not a published list known here |") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--thumbnails"], "--thumbnails are pictures of the worst errors: give --worst N too"),
        (["--worst-far", "0.1"], "--worst-far says which of the worst errors are errors: give --worst N too"),
        (["--worst", "-1"], "--worst must be at least 0, got -1"),
        (["--worst", "3", "--worst-far", "1e-5", "--resamples", "40"], "needs at least 100000 impostor trials"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", str(run), *words])
    assert message in " ".join(capsys.readouterr().err.split())
