"""One training by several processes, started as users start them: that of one process; when one dies, all end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from qmargin import training
from qmargin.cli import main
from qmargin.recipes import find_recipe
from qmargin.training import RunFolder
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.log import read_log
from qmargin.training.ranks import World, own_rank

# a small learning rate: rounding is not multiplied from step to step
SETTINGS = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --backbone.dropout 0 --batch-size 60 --epochs 4 --log-every 1 --checkpoint-every 7
--optimizer.learning-rate 0.0001
"""
STEPS = 20


def command(ranks: int, out: Path, *more: str) -> list[str]:
    by = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    return [sys.executable, *by, "-m", "qmargin", "train", "faces-orl", "--out", str(out), *SETTINGS.split(), *more]


def train(ranks: int, out: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(ranks, out, *more), capture_output=True, text=True, timeout=300, check=False)


def differences(one: Path, other: Path) -> float:
    """Largest of losses, backbone weights and prototypes."""
    logs = [torch.tensor([row["loss"] for row in read_log(RunFolder(path).log)]) for path in (one, other)]
    states = [load_checkpoint(RunFolder(path).checkpoint) for path in (one, other)]
    assert [state["step"] for state in states] == [STEPS, STEPS]
    pairs = [logs, [state["head"]["weight"] for state in states]]
    pairs += [[state["backbone"][name] for state in states] for name in states[0]["backbone"]]
    return max(float((a - b).abs().amax()) for a, b in pairs)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    assert train(1, out).returncode == 0
    return out


def test_two_ranks_train_what_one_process_trains(one: Path, tmp_path: Path) -> None:
    """With one bar and one log."""
    done = train(2, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{STEPS}/{STEPS}") == 1
    assert done.stdout.count("trained: ") == 1
    assert differences(one, tmp_path / "two") < 1e-5


def test_a_rank_that_dies_ends_all(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    with subprocess.Popen(
        command(2, out, "--epochs", "400"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as agent:
        try:
            deadline = time.monotonic() + 200
            while not RunFolder(out).log.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            os.kill(int(children[-1]), signal.SIGKILL)
            began = time.monotonic()
            _, errors = agent.communicate(timeout=100)
            assert time.monotonic() - began < 60
        finally:
            agent.kill()
    assert agent.returncode != 0
    assert "Signal 9 (SIGKILL)" in errors or "exitcode: -9" in errors.replace(" ", "")


def test_errors_say_their_rank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["train", "no-such-recipe"])
    assert capsys.readouterr().err.startswith("rank 1: error: ")


def test_restarts_need_resume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else the second attempt would be refused, hours after the start."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(ValueError, match=r"torchrun --max-restarts 3 starts this command again .*: add --resume"):
        training.train(find_recipe("faces-orl").with_loss("qmargin"), tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(
        ValueError, match=r"those of the second attempt would call dead ones: set TORCH_DISABLE_SHARE_RDZV_TCP"
    ):
        training.train(find_recipe("faces-orl").with_loss("qmargin"), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "size", 2)
    with pytest.raises(
        ValueError, match="batch_size is that of all ranks together: 61 rows cannot be shared evenly by 2"
    ):
        World().share(61)
    assert World().share(60, parts=5) == 30
    with pytest.raises(
        ValueError, match=r"got 4 parts of 30 rows \(batch_size 60, 2 ranks\); set batch_size to a multiple of 8"
    ):
        World().share(60, parts=4)


def test_alone_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert own_rank() == (0, 1)
    world = World()
    assert (world.rank, world.size, world.any(True, False)) == (0, 1, [True, False])
    with pytest.raises(ValueError, match="as it was said"):
        world.any(refusal=ValueError("as it was said"))
    assert world.share(5) == 5
