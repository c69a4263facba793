"""A run of two steps that the exports are made of."""

from dataclasses import replace

import pytest

from qmargin.backbones import IResNetConfig
from qmargin.recipes import find_recipe
from qmargin.training import RunFolder, train


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = find_recipe("faces-orl").with_loss("qmargin")
    backbone = IResNetConfig(
        blocks=(1, 1, 1, 1), width=4, embedding_dim=16, dropout=0.2, height=28, input_width=23, channels=1
    )
    small = replace(config, backbone=backbone, batch_size=60, max_steps=2, log_every=1)
    return train(small, tmp_path_factory.mktemp("runs") / "tiny")
