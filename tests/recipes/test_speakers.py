import math
from pathlib import Path

import pytest

from qmargin.backbones import EcapaConfig, SpeakerResNetConfig
from qmargin.data.speech import FrontEnd, RecordedNoise
from qmargin.recipes import find_recipe
from qmargin.training import SpeechDataConfig
from qmargin.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("voxceleb-resnet34", SpeakerResNetConfig(embedding_dim=256)),
        ("voxceleb-ecapa1024", EcapaConfig(channels=1024, embedding_dim=192)),
    ],
)
def test_the_voxceleb_recipes_say_what_wespeaker_does(name: str, backbone: object) -> None:
    config = find_recipe(name).with_loss("arcface")
    assert config.backbone == backbone
    assert isinstance(config.data, SpeechDataConfig)
    assert config.data.front_end == FrontEnd.wespeaker()
    assert config.data.frames == 200
    assert isinstance(config.data.augmentation.noise, RecordedNoise)
    assert config.data.augmentation.noise_probability == 0.6
    assert config.data.augmentation.num_classes(5_994) == 17_982
    optimizer = config.optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, True, 1e-4)
    # WeSpeaker's rate of epoch e of 150: 0.1 (5e-5 / 0.1)^(e / 150), times 4 at 256 segments a step
    for epoch in (6, 20, 75, 149):
        rate = learning_rate(
            epoch, 150, optimizer.learning_rate, optimizer.warmup, optimizer.decay, optimizer.final_learning_rate
        )
        assert rate == pytest.approx(4 * 0.1 * math.exp(epoch / 150 * math.log(5e-4)), rel=0.01)
    assert [round(config.loss.at(epoch / 150).margin.m, 3) for epoch in (0, 20, 30, 40, 150)] == [0, 0, 0.1, 0.2, 0.2]
    assert config.loss.final.scale == optimizer.as_of_scale == 32.0


@pytest.mark.parametrize("name", ["voxceleb-resnet34", "voxceleb-ecapa1024"])
def test_large_margin_fine_tuning_goes_on_from_the_run_of_the_recipe(name: str) -> None:
    base = find_recipe(name).with_loss("arcface")
    tuning = find_recipe(f"{name}-large-margin").with_loss("arcface")
    assert tuning.backbone == base.backbone
    assert isinstance(tuning.data, SpeechDataConfig)
    assert isinstance(base.data, SpeechDataConfig)
    assert (tuning.data.frames, tuning.epochs, tuning.batch_size) == (600, 5, 128)
    assert tuning.data.augmentation == base.data.augmentation  # as many classes: the prototypes are taken along
    assert tuning.init_head
    assert tuning.init_from == Path("runs") / name
    assert (base.averaging.last, tuning.averaging.last) == (10, None)
    assert base.averaging.every is None  # once an epoch at any batch size
    assert tuning.loss.at(0.0).margin.m == tuning.loss.at(1.0).margin.m == 0.5
    optimizer = tuning.optimizer
    for epoch in (1, 3):  # WeSpeaker's 1e-4 to 2.5e-5, times 128 / 64
        rate = learning_rate(
            epoch, 5, optimizer.learning_rate, optimizer.warmup, optimizer.decay, optimizer.final_learning_rate
        )
        assert rate == pytest.approx(2 * 1e-4 * 0.25 ** (epoch / 5), rel=0.01)
