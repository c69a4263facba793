"""Checkpoints of shards: any number of ranks reads what any number wrote, and a rank that dies ruins none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qmargin.cli import main
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.reshard import reshard
from qmargin.training.sharded_checkpoint import open_sharded_checkpoint

HERE = Path(__file__).parent
PROTOTYPES = {"head/weight", "head/base", "optimizers/head/state/0/momentum_buffer"}


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(HERE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of four ranks; on the way, all cases of the script have run."""
    folder = tmp_path_factory.mktemp("sharded")
    done = python("sharded_checkpoint_cases.py", folder)
    failures = [json.loads(path.read_text()) for path in sorted(folder.glob("rank*.json"))]
    assert failures == [""] * 4, "\n".join(failures)
    assert done.returncode == 0, done.stderr
    return folder / "sgd" / "step-000000004"


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {name: leaf for key, value in node.items() for name, leaf in leaves(value, f"{path}/{key}").items()}
    return {path.removeprefix("/"): node if isinstance(node, Tensor | list | int) else node.read()}


def of_folder(folder: Path) -> dict[str, Any]:
    with open_sharded_checkpoint(folder) as state:
        return leaves(state)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a, other[name]) if isinstance(a, Tensor) else a == other[name] for name, a in one.items()
    )


def test_four_ranks_save_and_any_number_goes_on_with_the_same_losses(written: Path) -> None:
    """The cases of the script, which this fixture has run."""
    assert of_folder(written).keys() >= PROTOTYPES


def test_shards_become_one_file_and_shards_again(written: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    reshard(written, whole, ranks=1)
    original = of_folder(written)
    assert equal(leaves(load_checkpoint(whole)), original)
    for ranks in (2, 3):
        reshard(whole, tmp_path / f"of-{ranks}", ranks)
        assert equal(of_folder(tmp_path / f"of-{ranks}"), original)
        assert len(list((tmp_path / f"of-{ranks}" / "shards").iterdir())) == ranks
    reshard(tmp_path / "of-3", tmp_path / "of-4", ranks=4)
    assert equal(of_folder(tmp_path / "of-4"), original)
    main(["checkpoint", "reshard", str(tmp_path / "of-4"), str(tmp_path / "again.safetensors"), "--ranks", "1"])
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_resharded_is_refused(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new"
    with pytest.raises(ValueError, match=r"ranks must be an integer >= 1, got 0"):
        reshard(written, target, ranks=0)
    with pytest.raises(ValueError, match=r"each rank must own at least one class: 50 classes"):
        reshard(written, target, ranks=40)
    with pytest.raises(ValueError, match=r"exists: name a new file \(1 rank\) or a new folder"):
        reshard(written, written, ranks=2)
    with pytest.raises(ValueError, match=r"no checkpoint at .*common\.safetensors"):
        reshard(tmp_path, target, ranks=2)
    with pytest.raises(ValueError, match=r"has no prototypes \(head/weight\): it is no checkpoint of a training"):
        reshard(written / "common.safetensors", target, ranks=2)
    with pytest.raises(SystemExit):
        main(["checkpoint", "merge"])
    assert "knows one thing to do, reshard, got 'merge'" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("number", ["1", "2", "4"])
def test_a_missing_or_damaged_shard_is_named(written: Path, tmp_path: Path, number: str) -> None:
    folder = tmp_path / "step"
    shutil.copytree(written, folder)
    shard = folder / "shards" / f"shard-0000{number}-model-00001-of-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"shard in .* is damaged: .*; put back a copy of it"):
        of_folder(folder)
    with pytest.raises(ValueError, match=rf"shard-0000{number}-.* is damaged or truncated"):
        reshard(folder, tmp_path / "new", ranks=2)
    shard.unlink()
    missing = r"step is not whole: of head/\w+ there are 3\d of 50 rows, from 3 of 4 ranks; put the missing shards back"
    with pytest.raises(ValueError, match=missing):
        of_folder(folder)
    with pytest.raises(ValueError, match=missing):
        reshard(folder, tmp_path / "new", ranks=2)


def test_a_rank_killed_while_all_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """At three random moments; `python tests/training/kill_during_save.py FOLDER` tries twenty."""
    done = python("kill_during_save.py", tmp_path, "--trials", 3)
    assert done.returncode == 0, done.stderr
    assert "3 checkpoints whole" in done.stdout
