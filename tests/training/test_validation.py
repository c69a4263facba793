"""Validation on the way, best weights, early stopping, and that all of it resumes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from qmargin.losses import QMargin, ScheduledLoss, SupportControl
from qmargin.training import AveragingConfig, RunFolder, TrainConfig, ValidationConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.log import read_log
from qmargin.training.model_file import read_model
from qmargin.training.step import train_step
from qmargin.training.validation import Validator, watched_figure

FIGURES = (0.5, 0.3, 0.4, 0.2, 0.25, 0.3, 0.35, 0.1)  # of the validations after steps 1, 2, ...


def scripted(figures: tuple[float, ...] = FIGURES, name: str = "identities.eer") -> Validator:
    """Figures that are read off a list; the network is put into evaluation mode, as real ones do."""
    left: Iterator[float] = iter(figures)

    def validate(backbone: nn.Module) -> dict[str, float]:
        backbone.eval()
        return {name: next(left), "lfw.accuracy": 0.9}

    return Validator(tuple(dict.fromkeys((name, "lfw.accuracy"))), validate)


def _fingerprint(backbone: nn.Module) -> dict[str, float]:
    """A figure that is a function of the weights, so that a resumed run has to find it again."""
    backbone.eval()
    return {"identities.eer": float(sum(tensor.double().sum() for tensor in backbone.state_dict().values()))}


fingerprint = Validator(("identities.eer",), _fingerprint)


def test_figures_are_logged_and_training_goes_on_in_train_mode(tiny: TrainConfig, tmp_path: Path) -> None:
    watched = replace(tiny, validation=ValidationConfig(every=4))
    run = train(watched, tmp_path / "run", validate=scripted())
    rows = read_log(run.validation)
    assert [(row["step"], row["identities.eer"]) for row in rows] == [(4, 0.5), (8, 0.3), (10, 0.4)]
    assert not run.best.exists()
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert [event.step for event in events.Scalars("validation/identities.eer")] == [4, 8, 10]
    plain = load_checkpoint(train(tiny, tmp_path / "plain").checkpoint)
    torch.testing.assert_close(load_checkpoint(run.checkpoint)["backbone"], plain["backbone"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "figures", "best", "ends"),
    [
        ("identities.eer", FIGURES, 4, 7),  # 0.2 is the lowest, and three later ones are not better
        ("identities.tar@1e-03", FIGURES, 1, 4),  # of a TAR the highest: 0.5, then three lower ones
        ("lfw.accuracy", (0.9,) * 8, 1, 4),  # an equal figure is no better one
    ],
)
def test_the_best_weights_are_kept_and_waiting_ends(
    tiny: TrainConfig, tmp_path: Path, name: str, figures: tuple[float, ...], best: int, ends: int
) -> None:
    config = replace(tiny, validation=ValidationConfig(every=1, watch=name, patience=3))
    run = train(config, tmp_path / "run", validate=scripted(figures, name))
    saved = load_checkpoint(run.checkpoint)
    assert saved["step"] == ends
    assert saved["validation"]["step"] == best
    said, network = read_model(run.best)
    assert said.step == best
    until_best = train(replace(tiny, max_steps=best, optimizer=tiny.optimizer), tmp_path / "short")
    assert said.backbone == until_best.read_config().backbone
    assert not network.training
    before = run.checkpoint.read_bytes()
    train(config, tmp_path / "run", resume=True, validate=scripted(name=name))  # over: nothing to do
    assert run.checkpoint.read_bytes() == before


def test_an_unknown_figure_or_a_missing_validator_is_refused(tiny: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny, validation=ValidationConfig(every=1, watch="lfw.eer"))
    with pytest.raises(
        ValueError, match=r"validation.watch must be one of identities.eer, lfw.accuracy, got 'lfw.eer'"
    ):
        train(config, tmp_path / "run", validate=scripted())
    assert not (tmp_path / "run").exists()  # hours of training would not make it another figure
    with pytest.raises(ValueError, match=r"validation.every is set: pass train\(..., validate="):
        train(config, tmp_path / "other")


def test_the_tar_figure_is_watched_under_its_short_name_too(tiny: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny, validation=ValidationConfig(every=5, watch="identities.tar"))
    run = train(config, tmp_path / "run", validate=scripted((0.5, 0.9), "identities.tar@1e-02"))
    said, _ = read_model(run.best)
    assert said.step == 10
    assert said.source.endswith("best identities.tar@1e-02")
    names = ("identities.eer", "identities.tar@1e-02")
    assert [watched_figure(name, names) for name in names] == list(names)
    with pytest.raises(ValueError, match=r"must be one of identities.eer, got 'identities.tar'"):
        watched_figure("identities.tar", names[:1])


def test_a_validator_gives_the_figures_that_it_has_named() -> None:
    with pytest.raises(ValueError, match=r"those it has named, a.eer; it gave b.eer"):
        Validator(("a.eer",), lambda _: {"b.eer": 0.5})(nn.Identity())


CHANGES: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "ema": lambda config: replace(config, averaging=AveragingConfig(ema=0.7)),
    "last": lambda config: replace(config, averaging=AveragingConfig(last=3, every=2)),
    "float16": lambda config: replace(config, precision="float16"),
    "accumulation": lambda config: replace(config, gradient_accumulation=3),
    "balance and prior": lambda config: replace(
        config, data=replace(config.image_data, class_balance=0.5), head=replace(config.head, prior_exponent=0.5)
    ),
    "support": lambda config: replace(
        config,
        loss=ScheduledLoss(name="q", final=QMargin(scale=3.0), support=SupportControl(start=20.0, end=3.0, gain=0.3)),
    ),
    "validation": lambda config: replace(
        config, validation=ValidationConfig(every=2, watch="identities.eer", patience=99)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stopped_run_resumes_to_the_same_bits(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    config = CHANGES[change](replace(tiny, checkpoint_every=5))
    whole = train(config, tmp_path / "whole", validate=fingerprint)

    def stopping(state: Any, *rest: Any) -> Any:
        if state.step == 8:
            raise KeyboardInterrupt
        return train_step(state, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("qmargin.training.loop.train_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "cut", validate=fingerprint)
    assert load_checkpoint(RunFolder(tmp_path / "cut").checkpoint)["step"] == 5
    resumed = train(config, tmp_path / "cut", resume=True, validate=fingerprint)
    first, second = load_checkpoint(whole.checkpoint), load_checkpoint(resumed.checkpoint)
    for text in ("manifest", "input"):  # which is not compared below
        assert first.pop(text) == second.pop(text)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert ("average" in first) is (change in ("ema", "last"))
    for table in ("log", "validation"):
        paths = [getattr(run, table) for run in (whole, resumed)]
        if paths[0].exists():
            tables = [[{k: v for k, v in row.items() if "second" not in k and "memory" not in k} for row in read_log(p)]
                      for p in paths]  # fmt: skip
            assert tables[0] == tables[1], table
    if change == "support":
        scales = [row["scale"] for row in read_log(whole.log)]
        assert len(set(scales)) > 5
    if change == "validation":
        assert whole.best.read_bytes() == resumed.best.read_bytes()
