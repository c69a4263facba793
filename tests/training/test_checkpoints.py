"""Checkpoints in the background, of one process; those of ranks are in test_rank_faults.py and kill_during_save.py."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qmargin import DenseHead, QMargin
from qmargin.training import RunFolder, TrainConfig, checkpoints, train
from qmargin.training.checkpoint import State, load_checkpoint, save_checkpoint
from qmargin.training.checkpoints import Checkpoints
from qmargin.training.ranks import ALONE


@contextmanager
def in_the_background(path: Path) -> Iterator[Checkpoints]:
    with closing(Checkpoints(RunFolder(path), ALONE, DenseHead(2, 2, QMargin()), background=True)) as opened:
        yield opened


def test_what_is_written_is_the_state_of_its_step_and_the_next_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Semaphore(0)

    def slow(state: State, path: Path) -> None:
        assert disk.acquire(timeout=10.0)
        save_checkpoint(state, path)

    monkeypatch.setattr(checkpoints, "save_checkpoint", slow)
    weights = torch.ones(3)
    with in_the_background(tmp_path) as writer:
        writer.save({"step": 1, "of": [{"weights": weights}]})
        weights.fill_(2.0)
        assert not (tmp_path / "checkpoint.safetensors").exists()
        assert writer.refusal() is None
        threading.Timer(0.05, disk.release).start()
        writer.save({"step": 2, "of": [{"weights": weights}]})
        first = load_checkpoint(tmp_path / "checkpoint.safetensors")
        disk.release()
        writer.wait()
    second = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert [first["step"], second["step"]] == [1, 2]
    assert [float(state["of"][0]["weights"].sum()) for state in (first, second)] == [3.0, 6.0]


def test_an_error_is_known_when_it_has_happened_and_raised_by_the_next(tmp_path: Path) -> None:
    with in_the_background(tmp_path / "missing") as writer:
        writer.save({"step": 1})
        while (refusal := writer.refusal()) is None:
            pass
        assert "cannot write" in str(refusal)
        with pytest.raises(ValueError, match=r"cannot write .*missing"):
            writer.save({"step": 2})
        writer.save({"step": 3})
        with pytest.raises(ValueError, match=r"cannot write .*missing"):
            writer.wait()


def test_training_ends_in_the_step_after_the_disk_failed(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny, checkpoint_in_background=True, checkpoint_every=2)
    written: list[int] = []

    def fails_once(state: State, path: Path) -> None:
        written.append(state["step"])
        if state["step"] == 4:
            raise ValueError("the disk is full")
        save_checkpoint(state, path)

    monkeypatch.setattr(checkpoints, "save_checkpoint", fails_once)
    with pytest.raises(ValueError, match="the disk is full"):
        train(config, tmp_path / "run")
    assert written == [2, 4]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["step"] == 2
    monkeypatch.undo()
    resumed = train(replace(config, checkpoint_in_background=False), tmp_path / "run", resume=True)
    plain = train(tiny, tmp_path / "plain")
    weights = [load_checkpoint(run.checkpoint)["backbone"] for run in (resumed, plain)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
