"""Options of training as flags: figures on the way, a start from elsewhere, and resuming without saying them again."""

import json
from pathlib import Path

import pytest

from qmargin.cli import main
from qmargin.training.log import read_log

TINY = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --max-steps 4 --log-every 1
"""

MORE = """
--validation.every 2 --validation.watch identities.eer --data.validation-identities 6 --averaging.ema 0.9
--gradient-accumulation 2 --loss qmargin-support --precision float16
"""


def test_a_run_validates_keeps_its_best_weights_and_hands_them_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["train", "faces-orl", "--out", "first", *TINY.split(), *MORE.split()])
    assert [row["step"] for row in read_log(Path("first/validation.csv"))] == [2, 4]
    main(["train", "faces-orl", "--out", "first", "--resume"])
    tail = ["--data.source.test-identities", "20", "--init-from", "first/best.safetensors"]
    main(["train", "faces-orl", "--out", "second", *TINY.split(), *tail])
    config = json.loads(Path("second/config.json").read_text())
    assert config["init_from"] == str(tmp_path / "first" / "best.safetensors")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "faces-orl", "--out", "third", *TINY.split(), "--validation.every", "2"])
    assert "nothing to validate on" in " ".join(capsys.readouterr().err.split())
