from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qmargin.training import AveragingConfig, TrainConfig, ValidationConfig, train

AVERAGING: list[tuple[dict[str, Any], str]] = [
    ({"ema": 0.9, "last": 3}, r"averaging.ema and averaging.last are two answers to one question"),
    ({"ema": 1.0}, r"averaging.ema must be in \[0, 1\), got 1.0"),
    ({"last": 0}, r"averaging.last must be an integer >= 1, got 0"),
    ({"every": 0}, r"averaging.every must be an integer >= 1, got 0"),
]
VALIDATION: list[tuple[dict[str, Any], str]] = [
    ({"every": 0}, r"validation.every must be an integer >= 1, got 0"),
    ({"bins": (Path("lfw.bin"),)}, r"do nothing without validation.every: .* --validation.bins without a file, --val"),
    ({"watch": "identities.eer"}, r"do nothing without validation.every"),
    ({"every": 1, "patience": 1}, r"validation.patience waits for a figure: name it with validation.watch"),
    ({"every": 1, "watch": "lfw.eer", "patience": 0}, r"validation.patience must be an integer >= 1, got 0"),
    ({"every": 1, "bins": (Path("a/lfw.bin"), Path("b/lfw.bin"))}, r"two validation.bins have one name \(lfw, lfw\)"),
]


@pytest.mark.parametrize(("values", "law"), AVERAGING)
def test_averaging_that_makes_no_sense_is_refused(values: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        AveragingConfig(**values)


@pytest.mark.parametrize(("values", "law"), VALIDATION)
def test_validation_that_makes_no_sense_is_refused(values: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        ValidationConfig(**values)


def test_a_training_too_short_for_the_states_of_a_mean_is_refused() -> None:
    config = AveragingConfig(last=3, every=5)
    config.check_steps(11)  # after 1, 6 and 11
    with pytest.raises(
        ValueError,
        match=r"asks for 3 states of the weights, 5 steps apart, and this training of 10 steps has 2: set "
        r"averaging.every to at most 4, or averaging.last to 2",
    ):
        config.check_steps(10)
    AveragingConfig(last=3, every=4).check_steps(10)
    with pytest.raises(ValueError, match=r"of 2 steps has 1: set averaging.last to 1"):
        config.check_steps(2)


def test_a_training_too_short_for_an_exponential_mean_is_refused(tiny: TrainConfig, tmp_path: Path) -> None:
    config = AveragingConfig(ema=0.999)
    with pytest.raises(
        ValueError,
        match=r"averaging.ema 0.999 over this training of 8 steps is to 99% the weights after the first one, and a "
        r"mean may be to 5%: set averaging.ema to at most 0.65, or train 2,996 steps",
    ):
        config.check_steps(8)
    with pytest.raises(ValueError, match=r"set averaging.ema to at most 0.99, or train 2,996 steps"):
        config.check_steps(2_995)
    config.check_steps(2_996)
    AveragingConfig(ema=0.65).check_steps(8)
    with pytest.raises(ValueError, match=r"to 100% .* set averaging.ema to at most 0, or train 6 steps"):
        AveragingConfig(ema=0.5).check_steps(1)
    AveragingConfig(ema=0.0).check_steps(1)  # of which the mean is the weights
    with pytest.raises(ValueError, match=r"averaging.ema 0.9 over this training of 10 steps is to 39%"):
        train(replace(tiny, averaging=AveragingConfig(ema=0.9)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mean_of_one_state_an_epoch_knows_no_batch_size() -> None:
    config = AveragingConfig(last=3, every=None)
    assert [step for step in range(1, 22) if config.is_due(step, 21, steps_per_epoch=7)] == [7, 14, 21]
    config.check_steps(21, steps_per_epoch=10)  # after 1, 11 and 21
    with pytest.raises(
        ValueError,
        match=r"asks for 3 states of the weights, 10 steps apart, once an epoch, and this training of 20 steps",
    ):
        config.check_steps(20, steps_per_epoch=10)
    for ask in (lambda: config.check_steps(9), lambda: config.is_due(3, 9)):
        with pytest.raises(ValueError, match=r"averaging.every None is once an epoch: pass steps_per_epoch"):
            ask()
    unused = AveragingConfig(every=None)  # no mean is asked for
    unused.check_steps(9)
    assert not unused.is_due(9, 9)


def test_the_loop_refuses_it_before_the_first_step(tiny: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this training of 10 steps has 2: set averaging.every to at most 4"):
        train(replace(tiny, averaging=AveragingConfig(last=3, every=5)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_when_weights_enter_the_mean() -> None:
    def due(config: AveragingConfig) -> list[int]:
        return [step for step in range(1, 24) if config.is_due(step, 23)]

    assert due(AveragingConfig()) == []
    assert due(AveragingConfig(ema=0.9)) == list(range(1, 24))
    assert due(AveragingConfig(last=3, every=5)) == [13, 18, 23]
    assert due(AveragingConfig(last=1, every=5)) == [23]
    assert due(AveragingConfig(last=99, every=10)) == [3, 13, 23]
