"""The sharded head is one process' head, whatever the number of ranks: a table of cases in one group of processes."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from qmargin import QMargin, StreamingHead
from qmargin.heads import ShardedHead

RANKS = 4


def test_every_case_on_every_number_of_ranks(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """sharded_cases.py has the cases; one start of processes serves all."""
    worker = [sys.executable, "-W", "error", str(Path(__file__).with_name("sharded_cases.py")), str(RANKS)]
    done = subprocess.run([*worker, str(tmp_path)], capture_output=True, text=True, timeout=500, check=False)
    results = json.loads((tmp_path / "results.json").read_text())
    for name, failure in results.items():
        with subtests.test(name):
            assert failure == ""
    assert len(results) == 40
    assert done.returncode == 0, done.stderr


def test_prototypes_are_those_of_one_process_however_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmargin.heads.sharded.DRAWN", 64)
    for classes, dim in ((3, 5), (33, 7), (50, 16)):
        torch.manual_seed(1)
        one = StreamingHead(classes, dim, QMargin())
        after = torch.rand(1)
        torch.manual_seed(1)
        head = ShardedHead(classes, dim, QMargin())
        assert torch.equal(head.weight, one.weight)
        assert torch.equal(torch.rand(1), after)


def test_the_group_survives_a_copy() -> None:
    head = copy.deepcopy(ShardedHead(9, 4, QMargin()))
    assert head.class_range == range(9)
    assert torch.equal(head.full_weight(), head.weight)


def test_refusals_of_the_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="backbone_gradients must be 'averaged' or 'summed', got 'mean'"):
        ShardedHead(9, 4, QMargin(), backbone_gradients="mean")  # type: ignore[arg-type]
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match=r"needs a process group: call torch\.distributed.init_process_group first"):
        ShardedHead(9, 4, QMargin())


def test_a_long_refusal_is_cut_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    head = ShardedHead(9, 4, QMargin())
    monkeypatch.setattr("qmargin.heads.collectives.LONGEST_REFUSAL", 20)
    with pytest.raises(ValueError, match=r"^rank 0: embeddings must have$"):
        head(torch.zeros(2, 3), torch.tensor([0, 1]))
