from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.backbones import IResNetConfig
from qmargin.data import ImageFormat, read_orl
from qmargin.scoring import embed_files_with, open_embedder
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import write_model

BACKBONE = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=8, height=28, input_width=23, channels=1)
IMAGE = ImageFormat(height=28, width=23, channels=1, fit="resize")


def test_a_model_file_embeds_image_and_mirror(tmp_path: Path) -> None:
    network = BACKBONE.build().eval()
    config = ModelConfig(backbone=BACKBONE, image=IMAGE, source="here", step=7)
    write_model(tmp_path / "m.safetensors", config, network.state_dict())
    faces = read_orl().subset("test")
    files = [faces.root / path for path in faces.paths[:3]]
    embedder = open_embedder(tmp_path / "m.safetensors")
    assert (embedder.image, embedder.device, embedder.step) == (IMAGE, "cpu", 7)
    found = embed_files_with(embedder, files)
    pixels = np.stack([IMAGE.decode(file) for file in files]).transpose(0, 3, 1, 2)
    views = torch.from_numpy(pixels).double() / 127.5 - 1
    with torch.inference_mode():
        expected = network(views.float()) + network(views.float().flip(-1))
    np.testing.assert_allclose(found.vectors, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert found.step == 7


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("m.pth", r"a pickled model may run code of its author; export it to ONNX .* use qmargin import"),
        ("m.pt", r"a TorchScript model may run code of its author; export it to ONNX .* use qmargin import"),
        ("m.safetensors", r"no model at .*m.safetensors"),
        ("m", r"m is not a run: it has no config.json"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        open_embedder(tmp_path / name)


def test_an_onnx_model_stays_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ONNX models run on the CPU here, got device 'cuda'"):
        open_embedder(tmp_path / "m.onnx", "cuda")
