"""Models in and out, as a user meets them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.cli import main
from qmargin.data import read_orl
from qmargin.scoring.directions import Vectors
from qmargin.scoring.vector_files import read_vectors

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --max-steps 2 --log-every 1
"""


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "faces-orl", "--out", str(path), *TINY.split()])
    return path


@pytest.fixture(scope="module")
def images() -> Path:
    return read_orl().root / "s1"


def vectors(model: Path, images: Path, out: Path) -> Vectors:
    main(["embed", str(model), "--images", str(images), "--out", str(out)])
    return read_vectors(out).vectors


def test_every_export_embeds_as_the_run(run: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra qmargin[onnx]")
    files = {name: tmp_path / name for name in ("m.onnx", "m.safetensors", "m.pth", "m.md", "again.safetensors")}
    words = ["--onnx", "m.onnx", "--safetensors", "m.safetensors", "--arcface-torch", "m.pth", "--card", "m.md"]
    main(["export", str(run), *(str(files.get(word, word)) for word in words)])
    assert files["m.md"].read_text().startswith("# IResNet")
    sizes = ["--height", "28", "--input-width", "23"]
    main(["import", str(files["m.pth"]), "--out", str(files["again.safetensors"]), *sizes])
    expected = vectors(run, images, tmp_path / "run.npz")
    for name in ("m.onnx", "m.safetensors"):
        found = vectors(files[name], images, tmp_path / f"{name}.npz")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_the_best_weights_are_judged_and_exported_and_the_tables_say_so(tmp_path: Path) -> None:
    out, card = tmp_path / "run", tmp_path / "m.md"
    watch = "--data.validation-identities 5 --validation.every 1 --validation.watch identities.eer"
    main(["train", "faces-orl", "--out", str(out), *TINY.split(), *watch.split()])
    for weights, said in (("best", True), ("newest", False)):
        main(["evaluate", str(out), "--resamples", "40", "--weights", weights])
        table = (out / "metrics-test.md").read_text()
        assert ("split test, weights of the best validation" in table) is said
        main(["export", str(out), "--card", str(card), "--weights", weights])
        assert (", best identities.eer, training step" in card.read_text()) is said


def test_an_imported_backbone_is_judged_on_pairs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = read_orl().subset("test")
    rows = [f"{faces.paths[0]},{faces.paths[1 + 9 * (n % 2) + n // 2]},{int(n % 2 == 0)}" for n in range(12)]
    (tmp_path / "p.csv").write_text("\n".join(["path_a,path_b,same", *rows]))
    main(["export", str(run), "--safetensors", str(tmp_path / "m.safetensors")])
    words = ["pairs", str(tmp_path / "m.safetensors"), str(tmp_path / "p.csv"), "--images", str(faces.root)]
    assert "is a file, not the folder of a run: say with --out" in refused(capsys, *words)
    main([*words, "--resamples", "0", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "pairs.md").is_file()


def test_what_cannot_be_exported_or_imported_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "say what to write: --onnx FILE" in refused(capsys, "export", str(run))
    twice = ("--card", str(tmp_path / "a.md"), "--arcface-torch", str(tmp_path / "a.md"))
    assert "two files to write have one name" in refused(capsys, "export", str(run), *twice)
    assert "ends in .md, got" in refused(capsys, "export", str(run), "--card", str(tmp_path / "a.txt"))
    assert "is not a run" in refused(capsys, "export", str(tmp_path), "--card", str(tmp_path / "a.md"))
    for words in (("export", str(run), "--card", str(tmp_path / "a.md")), ("evaluate", str(run))):
        assert "has no best.safetensors: only a training with" in refused(capsys, *words, "--weights", "best")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    out = ("--out", str(tmp_path / "a.safetensors"))
    assert "holds no IResNet" in refused(capsys, "import", str(tmp_path / "a.pth"), *out)
    assert "ends in .safetensors" in refused(capsys, "import", str(tmp_path / "a.pth"), "--out", "a.npz")
