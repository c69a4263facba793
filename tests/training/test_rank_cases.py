"""The options of a training under two ranks, DDP and FSDP: each is that of one process (cases in rank_cases.py)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = 14 * 3 - 2 + 1 + 4 + 1


def test_every_option_trains_as_one_process_does(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """One start of processes serves all cases."""
    worker = [sys.executable, "-W", "error", str(Path(__file__).with_name("rank_cases.py")), str(tmp_path)]
    done = subprocess.run([*worker], capture_output=True, text=True, timeout=500, check=False)
    results = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    for name in results[0]:
        with subtests.test(name):
            assert [of_rank.get(name, "") for of_rank in results] == ["", ""]
    assert len(results[0]) == CASES
    assert done.returncode == 0, done.stderr
