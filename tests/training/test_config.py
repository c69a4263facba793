from dataclasses import replace
from typing import Any

import pytest

from qmargin.data import ImageFormat
from qmargin.training import AveragingConfig, TrainConfig, ValidationConfig

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
    ({"head_learning_rate_factor": 0.0}, r"optimizer.head_learning_rate_factor must be a finite number > 0, got 0.0"),
    ({"head_weight_decay_factor": -1.0}, r"optimizer.head_weight_decay_factor must be >= 0, got -1.0"),
]
RUN: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, r"epochs must be an integer >= 1, got 0"),
    ({"batch_size": 1}, r"batch_size must be an integer >= 2, got 1"),
    ({"log_every": 0}, r"log_every must be an integer >= 1"),
    ({"checkpoint_every": 1.5}, r"checkpoint_every must be an integer >= 1, got 1.5"),
    ({"seed": -1}, r"seed must be an integer >= 0, got -1"),
    ({"max_steps": 0}, r"max_steps must be an integer >= 1, got 0"),
    ({"threads": 0}, r"threads must be an integer >= 1, got 0"),
    ({"precision": "float64"}, r"precision must be one of float32, bfloat16, float16, got 'float64'"),
    ({"gradient_accumulation": 0}, r"gradient_accumulation must be an integer >= 1, got 0"),
    ({"gradient_accumulation": 7}, r"equal parts of at least 2 .*: got 7 parts of batch_size 60"),
    ({"gradient_accumulation": 60}, r"equal parts of at least 2 .*: got 60 parts of batch_size 60"),
    (
        {"channels_last": True, "device": "cuda", "parallel": "fsdp"},
        r"parallel fsdp shares out weights in row-major order, channels_last .*: leave one of them off",
    ),
    ({"parallel": "zero"}, r"parallel must be one of ddp, fsdp, got 'zero'"),
    ({"channels_last": True}, r"channels_last is for CUDA, got device 'cpu': on a CPU oneDNN crashes"),
    ({"init_head": True}, r"init_head takes the prototypes of the run in init_from: name that run"),
    (
        {"averaging": AveragingConfig(last=2), "validation": ValidationConfig(every=1, watch="x", patience=1)},
        r"averaging.last is the mean of the last steps .* take averaging.ema",
    ),
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
    with pytest.raises(ValueError, match=r"data.class_balance must be in \[0, 1\], got 1.5"):
        replace(tiny.data, class_balance=1.5)
