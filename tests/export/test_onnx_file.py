import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qmargin.backbones import IResNetConfig, MobileFaceNetConfig
from qmargin.data import ImageFormat, read_orl
from qmargin.export import export_onnx, onnx_difference, read_trained
from qmargin.export.onnx_file import TOLERANCE
from qmargin.scoring import embed_files, embed_files_with, open_embedder
from qmargin.scoring.onnx_model import OnnxBackbone
from qmargin.training import RunFolder
from qmargin.training.model_config import ModelConfig

onnx = pytest.importorskip("onnx", reason="needs the extra qmargin[onnx]")

IMAGE = ImageFormat(height=28, width=23, channels=1)
SMALL = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=8, height=28, input_width=23, channels=1)


def test_an_exported_run_embeds_as_the_run_itself(run: RunFolder, tmp_path: Path) -> None:
    model = read_trained(run)
    assert export_onnx(model.config, model.network, tmp_path / "m.onnx") <= TOLERANCE
    faces = read_orl().subset("test")
    files = [faces.root / path for path in faces.paths[:20]]
    embedder = open_embedder(tmp_path / "m.onnx")
    assert embedder.image == run.read_config().image_data.image  # "resize" is not in the graph: the metadata says it
    assert embedder.step == 2
    ours, theirs = embed_files(run, files).vectors, embed_files_with(embedder, files).vectors
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


@pytest.mark.parametrize(
    "backbone",
    [SMALL, MobileFaceNetConfig(width=4, embedding_dim=8, height=28, input_width=23, channels=1)],
    ids=["iresnet", "mobilefacenet"],
)
def test_any_batch_gives_what_torch_gives(tmp_path: Path, backbone: IResNetConfig | MobileFaceNetConfig) -> None:
    network = backbone.build()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, 1, 28, 23))  # batch norms see something
    network.eval()
    config = ModelConfig(backbone=backbone, image=IMAGE, source="here", step=5)
    export_onnx(config, network, tmp_path / "m.onnx")
    exported = OnnxBackbone(tmp_path / "m.onnx")
    for batch in (1, 2, 7):
        images = torch.rand(batch, 1, 28, 23) * 2 - 1
        with torch.inference_mode():
            torch.testing.assert_close(exported(images), network(images), rtol=1e-4, atol=1e-4)
    described = {prop.key: prop.value for prop in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(described["qmargin_model"])["image"]["height"] == 28
    assert "luminance, 28 pixels high and 23 wide (of exactly that size)" in described["preprocessing"]
    assert "x / 127.5 - 1" in described["preprocessing"]
    assert "raw" in described["embedding"]


class Off(nn.Module):
    """A network with one coordinate a little off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.network(images)
        offset = torch.zeros(embeddings.shape[1])
        offset[3] = 1e-3
        moved: Tensor = embeddings + offset * torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        return moved


def test_the_comparison_sees_a_thousandth_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SMALL.build().eval()
    shapes = [(2, *SMALL.input_shape)]
    assert onnx_difference(network, network, shapes) == 0.0
    assert 5e-4 < onnx_difference(network, Off(network), shapes) < 2e-3
    monkeypatch.setattr("qmargin.export.onnx_file.OnnxBackbone", lambda _: Off(network))
    config = ModelConfig(backbone=SMALL, image=IMAGE, source="here")
    with pytest.raises(ValueError, match=r"gives other embeddings than torch: directions differ by .*e-0"):
        export_onnx(config, network, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_another_ending_is_refused(tmp_path: Path) -> None:
    config = ModelConfig(backbone=SMALL, image=IMAGE, source="here")
    with pytest.raises(ValueError, match=r"an ONNX model ends in .onnx, got .*m.pb"):
        export_onnx(config, SMALL.build().eval(), tmp_path / "m.pb")
