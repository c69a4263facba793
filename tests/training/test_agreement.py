"""What ranks must have alike; two ranks that do not are in test_rank_faults.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from qmargin.training import RunFolder, TrainConfig, train
from qmargin.training.agreement import check_folder, check_settings
from qmargin.training.manifest import read_samples
from qmargin.training.ranks import World


def world_where(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> World:
    """Three ranks that say the same, but for a word of the last."""
    monkeypatch.setattr(World, "texts", lambda _self, own: [own, own, own.replace(old, new)])
    return World()


def test_other_versions_are_refused(tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_where(monkeypatch, "torch 2", "torch 3")
    with pytest.raises(ValueError, match=r"ranks 0 and 2 run other versions \(qmargin .*, torch 2.*; .*torch 3"):
        check_settings(world, tiny, read_samples(tiny))


def test_other_settings_are_named_with_both_values_but_for_those_of_one_machine(
    tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world_where(monkeypatch, '"checkpoint_every": 3', '"checkpoint_every": 4')
    with pytest.raises(ValueError, match=r"0 and 2 were started with other settings \(checkpoint_every: 3 and 4\)"):
        check_settings(other, tiny, read_samples(tiny))
    one = replace(tiny, data=replace(tiny.image_data, workers=1))
    check_settings(world_where(monkeypatch, '"workers": 1', '"workers": 7'), one, read_samples(one))


def test_other_checkpoints_are_refused(tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path / "run")
    check_folder(world_where(monkeypatch, "of step", "-"), RunFolder(tmp_path))  # none, everywhere
    train(replace(tiny, max_steps=2), run.path)
    with pytest.raises(
        ValueError,
        match=r"ranks 0 and 2 would go on from other checkpoints \(checkpoint.safetensors of step 2; .* step 1\)",
    ):
        check_folder(world_where(monkeypatch, "of step 2", "of step 1"), run)
    with pytest.raises(ValueError, match=r"rank 2 does not see the config\.json that rank 0 does: the folder"):
        check_folder(world_where(monkeypatch, '"seed": 0', '"seed": 1'), run)
