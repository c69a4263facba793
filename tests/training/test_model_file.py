import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qmargin.backbones import IResNetConfig, MobileFaceNetConfig
from qmargin.data import ImageFormat
from qmargin.training.checkpoint import save_checkpoint
from qmargin.training.codec import model_from_json, model_to_json
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import open_model, read_model, write_model

IMAGE = ImageFormat(height=28, width=23, channels=1, fit="resize")
NETWORKS = (
    IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=8, height=28, input_width=23, channels=1),
    MobileFaceNetConfig(width=4, embedding_dim=8, height=28, input_width=23, channels=1),
)


@pytest.mark.parametrize("backbone", NETWORKS, ids=lambda config: type(config).__name__)
def test_a_network_comes_back_with_its_weights_and_config(
    tmp_path: Path, backbone: IResNetConfig | MobileFaceNetConfig
) -> None:
    network = backbone.build().eval()
    config = ModelConfig(backbone=backbone, image=IMAGE, source="here", step=7)
    write_model(tmp_path / "m.safetensors", config, network.state_dict())
    again, read = read_model(tmp_path / "m.safetensors")
    images = torch.randn(2, 1, 28, 23)
    assert again == config
    assert not read.training
    assert torch.equal(read(images), network(images))
    with safe_open(tmp_path / "m.safetensors", "pt") as file:  # the library of that name reads it too
        assert set(file.keys()) == set(network.state_dict())


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    config = ModelConfig(backbone=NETWORKS[0], image=IMAGE, source="here")
    with pytest.raises(ValueError, match=r"a model file ends in .safetensors, got .*m.pth"):
        write_model(tmp_path / "m.pth", config, {})
    with pytest.raises(ValueError, match=r"no model at .*m.safetensors"), open_model(path):
        pass
    save_checkpoint({"step": 1}, path)
    with pytest.raises(ValueError, match=r"without a qmargin model in it: weights alone do not say"), open_model(path):
        pass
    write_model(path, config, NETWORKS[0].build().state_dict())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"m.safetensors is damaged or truncated"):
        read_model(path)
    write_model(path, config, NETWORKS[1].build().state_dict())
    with pytest.raises(ValueError, match=r"does not fit the config's IResNet"):
        read_model(path)


def test_model_files_of_before_speech_are_of_images() -> None:
    config = ModelConfig(backbone=NETWORKS[0], image=IMAGE, source="here", step=7)
    tree = json.loads(model_to_json(config))
    assert tree.pop("kind") == "ModelConfig"
    assert model_from_json(json.dumps(tree), "m.safetensors") == config
