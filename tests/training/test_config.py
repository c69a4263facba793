from dataclasses import replace
from typing import Any

import pytest

from qmargin.data import ImageFormat
from qmargin.training import TrainConfig

OPTIMIZER: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": 0.0}, r"optimizer.learning_rate must be a finite number > 0, got 0.0"),
    ({"learning_rate": float("nan")}, r"optimizer.learning_rate must be a finite number > 0, got nan"),
    ({"clip_norm": float("inf")}, r"optimizer.clip_norm must be a finite number > 0, got inf"),
    ({"momentum": 1.0}, r"optimizer.momentum must be in \[0, 1\), got 1.0"),
    ({"warmup": -0.1}, r"optimizer.warmup must be in \[0, 1\), got -0.1"),
    ({"weight_decay": -1.0}, r"optimizer.weight_decay must be >= 0, got -1.0"),
    (
        {"decay": "steps"},
        r"decay must be one of \['constant', 'cosine', 'exponential', 'linear'\], got 'steps'",
    ),
    (
        {"decay": "exponential"},
        r"the exponential decay go together: got None with 'exponential'",
    ),
    ({"final_learning_rate": 0.01}, r"exponential decay go together: got 0.01 with 'cosine'"),
    ({"decay": "exponential", "final_learning_rate": 9.0}, r"final_learning_rate must be in \(0, 0.1\], the learning"),
    ({"nesterov": True, "momentum": 0.0}, r"optimizer.nesterov needs a momentum > 0"),
]
RUN: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, r"epochs must be an integer >= 1, got 0"),
    ({"batch_size": 1}, r"batch_size must be an integer >= 2, got 1"),
    ({"log_every": 0}, r"log_every must be an integer >= 1"),
    ({"checkpoint_every": 1.5}, r"checkpoint_every must be an integer >= 1, got 1.5"),
    ({"seed": -1}, r"seed must be an integer >= 0, got -1"),
    ({"max_steps": 0}, r"max_steps must be an integer >= 1, got 0"),
    ({"threads": 0}, r"threads must be an integer >= 1, got 0"),
    ({"precision": "float16"}, r"precision must be 'float32' or 'bfloat16', got 'float16'"),
]


@pytest.mark.parametrize(("change", "law"), OPTIMIZER)
def test_the_optimizer_refuses_values_outside_their_range(tiny: TrainConfig, change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        replace(tiny.optimizer, **change)


@pytest.mark.parametrize(("change", "law"), RUN)
def test_a_run_refuses_values_outside_their_range(tiny: TrainConfig, change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        replace(tiny, **change)


def test_data_and_backbone_must_agree_on_the_size_of_an_image(tiny: TrainConfig) -> None:
    wide = replace(tiny.image_data, image=ImageFormat(height=28, width=46, channels=1, fit="resize"))
    with pytest.raises(
        ValueError, match=r"takes images of .*\(1, 28, 23\), the data are images of .*\(1, 28, 46\): set both"
    ):
        replace(tiny, data=wide)
    with pytest.raises(ValueError, match=r"data.workers must be an integer >= 1, got 0"):
        replace(tiny.data, workers=0)
