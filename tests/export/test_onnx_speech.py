import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, SpeakerResNetConfig
from qmargin.data.speech import FrontEnd
from qmargin.export import export_onnx, read_trained
from qmargin.export.onnx_file import TOLERANCE
from qmargin.scoring import embed_files, embed_recordings_with, open_embedder, open_speech_embedder
from qmargin.scoring.onnx_model import OnnxBackbone, OnnxSpeechBackbone
from qmargin.training import RunFolder
from qmargin.training.codec import model_to_json
from qmargin.training.model_config import SpeechModelConfig
from qmargin.training.model_file import read_model, write_model

onnx = pytest.importorskip("onnx", reason="needs the extra qmargin[onnx]")

BACKBONES = (
    EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24),
    EcapaConfig(channels=16, pooled=24, bottleneck=8, embedding_dim=12, bins=24, global_context=False, stride=3),
    SpeakerResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=12, bins=24),
    CamPlusPlusConfig(layers=(1, 2, 1), growth=4, bottleneck=8, channels=12, width=4, embedding_dim=12, bins=24),
)


def seen(backbone: EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig) -> nn.Module:
    """A network whose batch norms have seen something, in evaluation mode."""
    torch.manual_seed(0)
    network = backbone.build()
    with torch.no_grad():
        for _ in range(5):
            network(3 * torch.randn(8, 50, backbone.bins))
    return network.eval()


@pytest.mark.parametrize("backbone", BACKBONES, ids=["ecapa", "ecapa-stride", "resnet", "cam++"])
def test_any_number_of_frames_gives_what_torch_gives(
    tmp_path: Path, backbone: EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig
) -> None:
    network = seen(backbone)
    config = SpeechModelConfig(backbone=backbone, front_end=FrontEnd(bins=24), source="here", step=5)
    assert export_onnx(config, network, tmp_path / "m.onnx") <= TOLERANCE
    exported = OnnxSpeechBackbone(tmp_path / "m.onnx")
    for batch, frames in ((1, 9), (1, 1), (2, 64), (4, 131), (1, 722)):  # one frame: a deviation of nothing
        features = 4 * torch.randn(batch, frames, 24)
        with torch.inference_mode():
            ours, theirs = (nn.functional.normalize(model(features)) for model in (network, exported))
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4, msg=f"{batch} utterances of {frames} frames")
    padded, lengths = 4 * torch.randn(3, 80, 24), torch.tensor([80, 31, 55])
    with torch.inference_mode():
        torch.testing.assert_close(exported(padded, lengths), network(padded, lengths), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def exported(speech_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run as s.onnx and s.safetensors."""
    folder = tmp_path_factory.mktemp("exported")
    model = read_trained(speech_run)
    assert export_onnx(model.config, model.network, folder / "s.onnx") <= TOLERANCE
    write_model(folder / "s.safetensors", model.config, model.network.state_dict())
    return folder


def test_an_exported_run_embeds_recordings_as_the_run_itself(
    speech_run: RunFolder, voices: Path, exported: Path
) -> None:
    files = sorted(voices.rglob("*.wav"))
    ours = embed_files(speech_run, files)
    for name in ("s.onnx", "s.safetensors"):
        embedder = open_speech_embedder(exported / name)
        assert (embedder.front_end.window, embedder.front_end.wave_scale) == ("povey", 1.0)
        found = embed_recordings_with(embedder, files)
        assert found.step == ours.step == 2
        scale = np.abs(ours.vectors).max()
        np.testing.assert_allclose(found.vectors, ours.vectors, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
    described = {prop.key: prop.value for prop in onnx.load(exported / "s.onnx").metadata_props}
    assert json.loads(described["qmargin_model"])["front_end"]["window"] == "povey"
    assert "povey window" in described["preprocessing"]
    assert "mirror" not in described["embedding"]
    (given,) = onnx.load(exported / "s.onnx").graph.input
    assert [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim] == ["batch", "frames", 24]


class Longer(nn.Module):
    """A network that goes wrong where there are many frames, as one whose frames were fixed would."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.network(features[:, :500])
        return embeddings


def test_the_comparison_covers_long_utterances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seen(BACKBONES[0])
    monkeypatch.setattr("qmargin.export.onnx_file.OnnxSpeechBackbone", lambda _: Longer(network))
    config = SpeechModelConfig(backbone=BACKBONES[0], front_end=FrontEnd(bins=24), source="here")
    with pytest.raises(ValueError, match=r"gives other embeddings than torch: directions differ by"):
        export_onnx(config, network, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_models_of_images_and_of_speech_are_not_mixed_up(
    speech_run: RunFolder, run: RunFolder, exported: Path, tmp_path: Path
) -> None:
    images = read_trained(run)
    write_model(tmp_path / "i.safetensors", images.config, images.network.state_dict())
    for ending in ("onnx", "safetensors"):
        with pytest.raises(ValueError, match=rf"s.{ending} is a model of speech, and images were asked for"):
            open_embedder(exported / f"s.{ending}")
    with pytest.raises(ValueError, match=r"i.safetensors is a model of images, and recordings were asked for"):
        open_speech_embedder(tmp_path / "i.safetensors")
    graph = onnx.load(exported / "s.onnx")
    (said,) = [prop for prop in graph.metadata_props if prop.key == "qmargin_model"]
    said.value = model_to_json(images.config)
    onnx.save(graph, tmp_path / "i.onnx")
    with pytest.raises(ValueError, match=r"i.onnx is a model of images, and recordings were asked for"):
        open_speech_embedder(tmp_path / "i.onnx")
    with pytest.raises(ValueError, match="trained on speech, and images were asked for"):
        open_embedder(speech_run.path)
    with pytest.raises(ValueError, match="trained on images, and recordings were asked for"):
        open_speech_embedder(run.path)
    with pytest.raises(ValueError, match="ONNX models run on the CPU here, got device 'cuda'"):
        open_speech_embedder(exported / "s.onnx", "cuda")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    with pytest.raises(ValueError, match="does not say what features it takes, and recordings were asked for"):
        open_speech_embedder(tmp_path / "bare.onnx")
    with pytest.raises(ValueError, match="batch, 1 or 3 channels, height, width"):
        OnnxBackbone(tmp_path / "bare.onnx")


def test_a_model_file_says_of_what_kind_it_is(tmp_path: Path) -> None:
    network = BACKBONES[2].build()
    config = SpeechModelConfig(
        backbone=BACKBONES[2], front_end=FrontEnd(bins=24, window="povey", wave_scale=1.0), source="here", step=3
    )
    write_model(tmp_path / "m.safetensors", config, network.state_dict())
    assert read_model(tmp_path / "m.safetensors")[0] == config
    with pytest.raises(ValueError, match="takes features of 24 bins, the front-end gives 80"):
        SpeechModelConfig(backbone=BACKBONES[2], source="here")
