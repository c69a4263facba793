"""A training run that takes a second: tiny images of the ORL faces, a network of a few thousand weights."""

from dataclasses import replace

import pytest

from qmargin.backbones import IResNetConfig
from qmargin.data import ImageFormat
from qmargin.recipes import find_recipe
from qmargin.training import TrainConfig


@pytest.fixture
def tiny() -> TrainConfig:
    config = find_recipe("faces-orl").with_loss("qmargin")
    return replace(
        config,
        data=replace(config.image_data, image=ImageFormat(height=28, width=23, channels=1, fit="resize")),
        backbone=IResNetConfig(
            blocks=(1, 1, 1, 1), width=4, embedding_dim=16, dropout=0.2, height=28, input_width=23, channels=1
        ),
        epochs=2,
        batch_size=60,
        log_every=1,
        checkpoint_every=3,
    )
