"""The commands of the face protocols as a user meets them."""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from qmargin.cli import main
from qmargin.data import read_orl
from qmargin.protocols import read_bin
from qmargin.protocols.ijb_synthetic import SyntheticIjb

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --epochs 1 --log-every 1
"""
BAD_INPUT = 2


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == BAD_INPUT
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "faces-orl", "--out", str(path), "--loss", "qmargin", *TINY.split()])
    return path


@pytest.fixture(scope="module")
def pairs_csv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """40 pairs of the test people of ORL, and the folder of the images."""
    faces = read_orl().subset("test")
    rows = ["path_a,path_b,same"]
    for place in range(40):
        other = place + (1 if place % 2 and place % 10 < 9 else 10)
        rows.append(
            f"{faces.paths[place]},{faces.paths[other]},{int(faces.identities[place] == faces.identities[other])}"
        )
    path = tmp_path_factory.mktemp("lists") / "orl.csv"
    path.write_text("\n".join(rows) + "\n")
    return path, faces.root


def test_pairs_packs_and_judges_the_same_images_alike(
    run: Path, pairs_csv: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, images = pairs_csv
    packed = tmp_path / "packed.bin"
    main(["pack", str(path), "--images", str(images), "--out", str(packed)])
    assert f"saved: {packed}, 40 pairs" in capsys.readouterr().out
    main(["pairs", str(run), str(path), str(packed), "--images", str(images), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    table = (tmp_path / "out" / "pairs.md").read_text()
    assert "(grid)" in shown
    assert "Accuracy (grid) (%)" in table
    assert f"packed: SHA-256 {read_bin(packed).sha256}" in table
    listed, binary = json.loads((tmp_path / "out" / "pairs.json").read_text())["sets"]
    assert "packed" in (tmp_path / "out" / "pairs.tex").read_text()
    lines = list(csv.reader((tmp_path / "out" / "pairs.csv").read_text().splitlines()))
    assert float(lines[2][lines[0].index("Accuracy (share)")]) == binary["accuracy"]["mean"]
    assert listed["accuracy"] == binary["accuracy"]
    assert listed["eer"] == binary["eer"]
    assert listed["flip"] is True
    main(["pairs", str(run), str(packed), "--no-flip"])
    (unflipped,) = json.loads((run / "pairs.json").read_text())["sets"]
    assert unflipped["flip"] is False
    assert unflipped["points"] != binary["points"] or unflipped["accuracy"] != binary["accuracy"]


def test_a_hostile_bin_is_one_clear_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lfw.bin").write_bytes(b"cos\nsystem\n(S'touch was-run'\ntR.")
    message = refused(capsys, "pairs", str(run), str(tmp_path / "lfw.bin"), "--out", str(tmp_path))
    assert "lfw.bin, byte 11: it names os.system, which is no part of a list of images; nothing was imported" in message
    assert not (tmp_path / "was-run").exists()


@pytest.fixture(scope="module")
def ijb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ijb")
    SyntheticIjb(subjects=20, probes=100, images=400, genuine=90, impostor=1500, dim=8, noise=2.0).write(folder)
    return folder


def test_ijb_prints_each_preset_and_saves_it(ijb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--features", str(ijb / "features.npy"), "--mirrors", str(ijb / "mirrors.npy")]
    presets = ["--presets", "insightface", "tface", "--identification"]
    main(["ijb", str(ijb / "meta"), *files, *presets, "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    table = (tmp_path / "ijb.md").read_text()
    for text in (shown, table):
        assert all(word in text for word in ("insightface", "N1D1F1", "N0D0F0", "nearest", "Rank-1"))
    record = json.loads((tmp_path / "ijb.json").read_text())
    saved, _ = record["verification"]
    assert record["published"] == []  # the invented set is neither IJB-B nor IJB-C
    assert record["system"] == str(ijb / "features.npy")
    written = {"ijb.md", "ijb.tex", "ijb.csv", "ijb.json", "ijb.html"}
    written |= {f"ijb-{curve}.{kind}" for curve in ("det", "roc") for kind in ("svg", "png")}
    written |= {f"ijb-{part}-{preset}.csv" for part in ("points", "1N") for preset in ("insightface", "tface")}
    assert {path.name for path in tmp_path.iterdir()} == written
    assert saved["pooling"] == "N1D1F1"
    assert [point["rule"] for point in saved["points"]] == ["conservative"] * 3 + ["nearest"] * 3
    assert 0 < record["identification"]["tface"]["rank"]["1"] < 1
    point = saved["points"][1]
    assert f" {100 * point['tar']:.2f} " in table
    assert f"{point['far']:.3e}" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ijb", "META", "--out", "x"], "give either --features FILE, or --run RUN with --images DIR"),
        (["ijb", "META", "--out", "x", "--features", "f.npy", "--run", "r"], "give either --features FILE"),
        (["ijb", "META", "--out", "x", "--run", "r"], "--run and --images belong together"),
        (["ijb", "META", "--out", "x", "--run", "r", "--images", "i", "--mirrors", "m"], "--mirrors is for --features"),
        (["ijb", "META", "--out", "x", "--features", "f.npy", "--presets", "arc"], "unknown preset 'arc'"),
        (["ijb", "META", "--out", "x", "--features", "f.npy", "--presets", "tface", "tface"], "each once"),
        (["ijb", "nowhere", "--out", "x", "--features", "f.npy"], "nowhere holds the lists of neither set"),
        (["ijb", "META", "--out", "x", "--features", "f.npy", "--expected", "IJB-C"], "IJB-C has 469,375 images"),
        (["ijb", "META", "--out", "x", "--features", "f.npy", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["pairs", "nowhere", "lfw.bin"], "nowhere is not a run: it has no config.json"),
        (["pairs", "nowhere"], "give at least one list of pairs"),
        (["pairs", "nowhere", "a/lfw.bin", "b/lfw.bin"], "two lists have one name (lfw, lfw)"),
        (["pairs", "RUN", "lfw.rec"], "lfw.rec must end in one of .bin, .csv, .txt"),
        (["pairs", "RUN", "lfw.bin"], "cannot read lfw.bin: No such file or directory"),
        (["pack", "pairs.csv", "--out", "own.pkl"], "--out must end in .bin, got own.pkl"),
        (["pack", "pairs.csv", "--out", "own.bin"], "cannot read pairs.csv: No such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    words: list[str],
    message: str,
    run: Path,
    ijb: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"META": str(ijb / "meta"), "RUN": str(run)}
    assert message in refused(capsys, *(known.get(word, word) for word in words))
    assert list(tmp_path.iterdir()) == []


def test_features_of_another_set_are_refused(ijb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "f.npy", np.ones((7, 2), np.float32))
    words = (
        "ijb",
        str(ijb / "meta"),
        "--features",
        str(tmp_path / "f.npy"),
        "--out",
        str(tmp_path),
        "--presets",
        "tface",
    )
    assert "there are features of 7 images, the lists have 400" in refused(capsys, *words)


def test_a_run_of_small_images_cannot_embed_aligned_faces(
    run: Path, ijb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ijb", str(ijb / "meta"), "--run", str(run), "--images", str(tmp_path), "--out", str(tmp_path / "x"))
    assert "aligned faces are of shape (3, 112, 112), this backbone was trained on (1, 28, 23)" in refused(
        capsys, *words
    )


def test_a_packed_set_is_an_ordinary_bin(pairs_csv: tuple[Path, Path], tmp_path: Path) -> None:
    path, images = pairs_csv
    main(["pack", str(path), "--images", str(images), "--out", str(tmp_path / "own.bin")])
    bins, same = pickle.loads((tmp_path / "own.bin").read_bytes())  # noqa: S301 - written a line above
    first = path.read_text().splitlines()[1].split(",")
    assert bins[:2] == [(images / name).read_bytes() for name in first[:2]]
    assert same[0] is (first[2] == "1")
