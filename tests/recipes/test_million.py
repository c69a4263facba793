from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qmargin.backbones import IResNetConfig
from qmargin.data import SyntheticIdentities
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_run
from qmargin.training import Interrupted, TrainConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.log import read_log
from qmargin.training.step import train_step

IDENTITIES = 2_000


@pytest.fixture
def small() -> TrainConfig:
    config = find_recipe("million").with_loss("qmargin")
    return replace(
        config,
        data=replace(
            config.image_data, source=SyntheticIdentities(identities=IDENTITIES, samples=6_000, test_identities=5)
        ),
        backbone=IResNetConfig(blocks=(1, 1, 1, 1), width=8, embedding_dim=32, height=16, input_width=16, channels=1),
        max_steps=40,
        batch_size=64,
        log_every=1,
        checkpoint_every=1_000,
        threads=1,
    )


def test_the_recipe_is_a_million_identities_with_the_streaming_head() -> None:
    config = find_recipe("million").with_loss()
    assert config.data.source == SyntheticIdentities(identities=1_000_000, samples=2_000_000, test_identities=100)
    assert config.head.kind == "streaming"
    assert config.max_steps is not None


def test_the_loss_falls_and_strangers_can_be_embedded(small: TrainConfig, tmp_path: Path) -> None:
    run = train(small, tmp_path / "run")
    rows = read_log(run.log)
    assert [row["step"] for row in rows] == list(range(1, 41))
    first, last = (sum(row["loss"] for row in part) / 10 for part in (rows[:10], rows[-10:]))
    assert last < 0.9 * first
    assert all(0 < row["candidates"] < IDENTITIES for row in rows)
    assert embed_run(run, "test").vectors.shape == (25, 32)


@pytest.mark.parametrize("update", ["lazy", "dense"])
def test_a_stopped_run_resumes_bit_for_bit_with_its_head_and_momentum(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: Any
) -> None:
    config = replace(small, head=replace(small.head, update=update), max_steps=12)
    whole = train(config, tmp_path / "whole")

    def stopping(state: Any, *rest: Any) -> Any:
        if state.step == 7:
            raise KeyboardInterrupt
        return train_step(state, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("qmargin.training.loop.train_step", stopping)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            train(replace(config, checkpoint_every=5), tmp_path / "cut")
    assert load_checkpoint(tmp_path / "cut" / "checkpoint.safetensors")["step"] == 5
    resumed = train(config, tmp_path / "cut", resume=True)
    first, second = load_checkpoint(whole.checkpoint), load_checkpoint(resumed.checkpoint)
    assert torch.equal(first["head"]["weight"], second["head"]["weight"])
    momentum = [run["optimizers"]["head"]["state"]["0"]["momentum_buffer"] for run in (first, second)]
    assert torch.equal(*momentum)
    assert momentum[0].shape == (IDENTITIES, 32)
    for name, weight in first["backbone"].items():
        assert torch.equal(weight, second["backbone"][name]), name
    assert [row["loss"] for row in read_log(whole.log)] == [row["loss"] for row in read_log(resumed.log)]
