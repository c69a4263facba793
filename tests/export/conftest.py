"""Runs of two steps that the exports are made of: one on images, one on speech."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.voices import write_voices

from qmargin.backbones import EcapaConfig, IResNetConfig
from qmargin.data.speech import FrontEnd, SpeakerFolders
from qmargin.recipes import find_recipe
from qmargin.training import RunFolder, SpeechDataConfig, train


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = find_recipe("faces-orl").with_loss("qmargin")
    backbone = IResNetConfig(
        blocks=(1, 1, 1, 1), width=4, embedding_dim=16, dropout=0.2, height=28, input_width=23, channels=1
    )
    small = replace(config, backbone=backbone, batch_size=60, max_steps=2, log_every=1)
    return train(small, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="package")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voices(tmp_path_factory.mktemp("voices"), speakers=6, utterances=3)


@pytest.fixture(scope="package")
def speech_run(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = find_recipe("speakers-small").with_loss("qmargin")
    front_end = replace(FrontEnd.speaker_3d(), bins=24)  # not the default: it must travel with the model
    data = SpeechDataConfig(source=SpeakerFolders(train=voices), front_end=front_end, frames=40)
    backbone = EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24)
    small = replace(config, data=data, backbone=backbone, batch_size=6, max_steps=2, log_every=1)
    return train(small, tmp_path_factory.mktemp("runs") / "speech")
