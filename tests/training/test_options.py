from pathlib import Path
from typing import Any

import pytest

from qmargin.training import AveragingConfig, ValidationConfig

AVERAGING: list[tuple[dict[str, Any], str]] = [
    ({"ema": 0.9, "last": 3}, r"averaging.ema and averaging.last are two answers to one question"),
    ({"ema": 1.0}, r"averaging.ema must be in \[0, 1\), got 1.0"),
    ({"last": 0}, r"averaging.last must be an integer >= 1, got 0"),
    ({"every": 0}, r"averaging.every must be an integer >= 1, got 0"),
]
VALIDATION: list[tuple[dict[str, Any], str]] = [
    ({"every": 0}, r"validation.every must be an integer >= 1, got 0"),
    ({"bins": (Path("lfw.bin"),)}, r"do nothing without validation.every"),
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


def test_when_weights_enter_the_mean() -> None:
    def due(config: AveragingConfig) -> list[int]:
        return [step for step in range(1, 24) if config.is_due(step, 23)]

    assert due(AveragingConfig()) == []
    assert due(AveragingConfig(ema=0.9)) == list(range(1, 24))
    assert due(AveragingConfig(last=3, every=5)) == [13, 18, 23]
    assert due(AveragingConfig(last=1, every=5)) == [23]
    assert due(AveragingConfig(last=99, every=10)) == [3, 13, 23]
