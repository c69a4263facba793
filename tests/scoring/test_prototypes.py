from pathlib import Path

import pytest
import torch

from qmargin.scoring import prototypes
from qmargin.scoring.prototypes import read_prototypes
from qmargin.training import RunFolder
from qmargin.training.checkpoint import save_checkpoint


def test_directions_of_the_heads_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prototypes, "ROWS", 3)
    weight = torch.randn(10, 4)
    run = RunFolder(tmp_path)
    save_checkpoint({"head": {"weight": weight}}, run.checkpoint)
    torch.testing.assert_close(read_prototypes(run), torch.nn.functional.normalize(weight))
    weight[7] = 0.0
    save_checkpoint({"head": {"weight": weight}}, run.checkpoint)
    with pytest.raises(ValueError, match=r"a prototype is zero or not finite; was the run spoiled"):
        read_prototypes(run)
