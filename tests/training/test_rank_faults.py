"""What happens to a training when one of its ranks fails: rank_faults.py makes the faults, here is what is left."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KILLED, REFUSED, SILENT = -9, 2, 1  # exit codes
SAVED = ["step-000000004"]
ENDED_FIRST = r"rank {}: error: another rank ended first; its error is the one to read \("
EXPECTED: dict[str, tuple[list[int], list[str], list[str]]] = {  # exit codes and errors of the ranks, checkpoints
    "none": ([0, 0], ["$", "$"], ["step-000000010"]),
    "killed in forward": ([REFUSED, KILLED], [ENDED_FIRST.format(0), "$"], SAVED),
    "killed in all_gather": ([REFUSED, KILLED], [ENDED_FIRST.format(0), "$"], SAVED),
    "killed in save": ([REFUSED, KILLED], [ENDED_FIRST.format(0), "$"], [".step-000000008.partial", *SAVED]),
    "killed in publishing": ([KILLED, REFUSED], ["$", ENDED_FIRST.format(1)], [".step-000000008.partial", *SAVED]),
    "killed after publishing": ([KILLED, REFUSED], ["$", ENDED_FIRST.format(1)], [*SAVED, "step-000000008"]),
    "killed in merging": ([KILLED, REFUSED], ["$", ENDED_FIRST.format(1)], ["step-000000010"]),
    "killed in the background": (
        [REFUSED, KILLED],
        [ENDED_FIRST.format(0), "$"],
        [".step-000000008.partial", *SAVED],
    ),
    "killed while the disk is slow": ([REFUSED, KILLED], [ENDED_FIRST.format(0), "$"], [".step-000000004.partial"]),
    "disk full in the background": (
        [REFUSED, REFUSED],
        [r"rank 0: error: rank 1: cannot write .*/shards: .*File too large; the checkpoint of before is untouched", ""],
        SAVED,
    ),
    "disk full": (
        [REFUSED, REFUSED],
        [r"rank 0: error: rank 1: cannot write .*/shards: .*File too large; the checkpoint of before is untouched", ""],
        SAVED,
    ),
    "refuses": (
        [REFUSED, REFUSED],
        [ENDED_FIRST.format(0), r"rank 1: error: training stopped before step 6, .*: image 17 cannot be read\. The b"],
        SAVED,
    ),
    "silent": (
        [SILENT, KILLED],
        [r"rank 0: error: nothing was heard from another rank for 5 s: its machine hangs or the network", "$"],
        SAVED,
    ),
    "other settings": (
        [REFUSED, REFUSED],
        [
            rf"rank {rank}: error: ranks 0 and 1 were started with other settings "
            r"\(optimizer\.learning_rate: 0\.01 and 0\.02\): start all with the same recipe and the same flags"
            for rank in range(2)
        ],
        [],
    ),
    "other data": (
        [REFUSED, REFUSED],
        [
            rf"rank {rank}: error: ranks 0 and 1 read other data \(400 samples of 40 identities, SHA-256 of "
            r"the list \w{64}; 400 samples of 40 identities, .*\): data\.source must hold the same samples"
            for rank in range(2)
        ],
        [],
    ),
    "other folder": (
        [REFUSED, REFUSED],
        [
            rf"rank {rank}: error: rank 1 does not see the config\.json that rank 0 does: the folder of the run, .*, "
            "must lie on a disk that all ranks see"
            for rank in range(2)
        ],
        [],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all faults have happened."""
    place = tmp_path_factory.mktemp("faults")
    worker = [sys.executable, "-W", "error", str(HERE / "rank_faults.py"), str(place)]
    done = subprocess.run(worker, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outcomes.json").read_text())
    assert found.keys() == EXPECTED.keys()
    return found


@pytest.mark.parametrize("fault", EXPECTED)
def test_both_ranks_end_and_the_first_error_is_shown(outcomes: dict[str, Any], fault: str) -> None:
    exits, errors, checkpoints = EXPECTED[fault]
    found = outcomes[fault]
    assert found["exits"] == exits, found["errors"]
    for pattern, text in zip(errors, found["errors"], strict=True):
        assert re.match(pattern, text), (pattern, text)
    assert found["newest"] == checkpoints
    assert found["outlived"] < 30.0


def test_the_run_goes_on_to_the_same_bits(outcomes: dict[str, Any], folder: Path) -> None:
    """Weights, momentum and all else of the run that no fault befell; dropout and augmentation included."""
    whole = (folder / "none" / "checkpoint.safetensors").read_bytes()
    resumed = [name for name, outcome in outcomes.items() if "resumed" in outcome]
    assert len(resumed) == 6
    for name in resumed:
        assert outcomes[name]["resumed"] == [0, 0], name
        assert (folder / name.replace(" ", "-") / "checkpoint.safetensors").read_bytes() == whole, name


def test_torchrun_starts_a_run_again_that_goes_on_by_itself(folder: Path, tmp_path: Path) -> None:
    """A rank is killed in the first attempt; the second ends with the weights of the run that no fault befell."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    out = tmp_path / "run"
    command = [*agent, "--max-restarts", "1", str(HERE / "rank_faults.py"), str(out)]
    alone = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    # what the other rank says depends on who is faster, it or torchrun's SIGTERM; the tests above see it end by itself
    assert "failed (exitcode: -9) local_rank: 1" in done.stderr
    whole = (folder / "none" / "checkpoint.safetensors").read_bytes()
    assert (out / "checkpoint.safetensors").read_bytes() == whole
