from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qmargin.training import checkpoint
from qmargin.training.checkpoint import State, load_checkpoint, save_checkpoint


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

    def broken(_tensors: object, name: Path, **_: object) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(ValueError, match=r"cannot write .*c\.safetensors: No space left on device; nothing was lost"):
        save_checkpoint({"step": 8}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
