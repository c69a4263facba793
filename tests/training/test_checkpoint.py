import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file

from qmargin.training import checkpoint
from qmargin.training.checkpoint import State, load_checkpoint, open_checkpoint, save_checkpoint
from qmargin.training.tensorfile import Stored


@pytest.fixture
def state() -> State:
    return {
        "step": 7,
        "weights": {"a": torch.randn(3, 4), "counter": torch.tensor(5)},
        "groups": [{"lr": 0.1, "params": [0, 1], "none": None, "flag": True, "name": "x"}],
        "generator": torch.get_rng_state(),
        "half": torch.randn(2, 2).to(torch.bfloat16),
        "transposed": torch.randn(2, 3).T,
    }


def test_a_state_survives_the_round_trip_bit_for_bit(state: State, tmp_path: Path) -> None:
    save_checkpoint(state, tmp_path / "c.safetensors")
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded["groups"] == state["groups"]
    assert loaded["step"] == 7
    for part in ("weights", "generator", "half", "transposed"):
        torch.testing.assert_close(loaded[part], state[part], rtol=0, atol=0)


def test_a_truncated_file_is_named_at_any_length(state: State, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(state, path)
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"c\.safetensors is damaged or truncated .* put back a copy"):
            load_checkpoint(path)


def test_a_missing_file_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint at .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"is a safetensors file but no qmargin checkpoint"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_write_that_fails_leaves_the_old_checkpoint(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(state, path)
    before = path.read_bytes()

    def broken(file: BinaryIO, *_: object) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", broken)
    with pytest.raises(ValueError, match=r"cannot write .*c\.safetensors: No space left on device; nothing was lost"):
        save_checkpoint({"step": 8}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_open_checkpoint_holds_its_tensors_in_the_file(state: State, tmp_path: Path) -> None:
    save_checkpoint(state, tmp_path / "c.safetensors")
    target = torch.zeros(3, 4)
    with open_checkpoint(tmp_path / "c.safetensors") as opened:
        assert opened["step"] == 7
        stored = opened["weights"]["a"]
        assert isinstance(stored, Stored)
        stored.copy_to(target)
    assert torch.equal(target, state["weights"]["a"])


def test_a_tree_that_names_a_tensor_which_is_not_there_is_damaged(tmp_path: Path) -> None:
    tree = json.dumps({"weight": {"__tensor__": "weight"}})
    save_file({"bias": torch.zeros(2)}, tmp_path / "c.safetensors", metadata={"qmargin_state": tree})
    with pytest.raises(ValueError, match=r"c\.safetensors is damaged .*the tensor weight is not in it"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint({"weight": torch.zeros(100_000)}, path)

    def read_late() -> None:
        with open_checkpoint(path) as opened:
            os.truncate(path, 200_000)
            opened["weight"].read()

    with pytest.raises(ValueError, match=r"became shorter while it was read"):
        read_late()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process inherits the peak of its parent")
def test_writing_and_reading_need_no_second_copy(tmp_path: Path) -> None:
    """A head of 256 MB and its momentum pass through a checkpoint in a process of its own; peak memory is read."""
    script = """
import sys
from pathlib import Path
import torch
from qmargin.training.checkpoint import open_checkpoint, save_checkpoint
from qmargin.training.log import peak_memory_mib

path, state = Path(sys.argv[1]), {"weight": torch.ones(1 << 26)}
assert peak_memory_mib() > 256
save_checkpoint({"weight": torch.ones(1 << 22)}, path)  # warms up what is loaded at the first use
before = peak_memory_mib()
save_checkpoint(state, path)
print(peak_memory_mib() - before)
with open_checkpoint(path) as opened:
    opened["weight"].copy_to(state["weight"])
print(peak_memory_mib() - before)
"""
    run = [sys.executable, "-c", script, str(tmp_path / "c.safetensors")]
    output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    for extra in output.split():
        assert float(extra) < 64, f"{extra} MiB beside the 256 of the tensor"
