"""From the path of a model to what embeds with it: a run's folder, a model file (.safetensors), or an ONNX model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from qmargin.scoring.embed import Embeddings, embed, embed_recordings, listed
from qmargin.scoring.features import Embedder
from qmargin.scoring.onnx_model import OnnxBackbone, OnnxSpeechBackbone
from qmargin.scoring.runs import trained_backbone
from qmargin.scoring.speech import SpeechEmbedder, listed_recordings
from qmargin.scoring.torchscript_model import ENDINGS as TORCHSCRIPT
from qmargin.training import RunFolder
from qmargin.training.model_config import AnyModelConfig, ModelConfig, SpeechModelConfig
from qmargin.training.model_file import SUFFIX, read_model
from qmargin.training.state import check_device

PICKLED = (".bin", ".ckpt", ".pkl", ".pth")  # files of models that are as a rule pickles


def open_embedder(model: Path, device: str | None = None) -> Embedder:
    """The backbone of a model, ready to embed.

    Args:
        model: folder of a trained run (its newest checkpoint), `.safetensors` of qmargin export or import, or `.onnx`.
        device: where to compute; that of the training for a run, the CPU for a file, unless given.

    Raises:
        ValueError: no such model, one of speech, a kind that is not opened, or an ONNX model on another device than the
            CPU.

    Sibling: `open_speech_embedder`.
    """
    _refuse_programs(model)
    return _OPENERS.get(model.suffix, _of_run)(model, device)


def open_speech_embedder(model: Path, device: str | None = None) -> SpeechEmbedder:
    """The backbone of a model of speech with its front-end, ready to embed; arguments are those of `open_embedder`.

    Raises:
        ValueError: no such model, one of images, a kind that is not opened, an ONNX model that qmargin export did not
            write, or on another device than the CPU.
    """
    _refuse_programs(model)
    return _SPEECH_OPENERS.get(model.suffix, _speech_of_run)(model, device)


def _refuse_programs(model: Path) -> None:
    """Models that are programs are not opened."""
    if model.suffix in TORCHSCRIPT:
        raise ValueError(
            f"{model} is not opened: a TorchScript model may run code of its author; export it to ONNX "
            "(torch.onnx.export); qmargin embed runs one on request; if it is a backbone of arcface_torch, use qmargin "
            "import"
        )
    if model.suffix in PICKLED:
        raise ValueError(
            f"{model} is not opened: a pickled model may run code of its author; export it to ONNX "
            "(torch.onnx.export), or, if it is a backbone of arcface_torch, use qmargin import"
        )


def embed_files_with(embedder: Embedder, files: Sequence[Path]) -> Embeddings:
    """Embed any images, each once: the raw embedding of the image plus that of its mirror, in the order of `files`."""
    found = embed(embedder.backbone, listed(files), embedder.image, device=embedder.device)
    return replace(found, step=embedder.step)


def embed_recordings_with(embedder: SpeechEmbedder, files: Sequence[Path]) -> Embeddings:
    """Embed any recordings, each once: raw embeddings of whole recordings, in the order of `files`."""
    table = listed_recordings(files)
    found = embed_recordings(embedder.backbone, table, embedder.front_end, device=embedder.device)
    return replace(found, step=embedder.step)


def _of_run(model: Path, device: str | None) -> Embedder:
    return Embedder.of_run(RunFolder(model), device)


def _of_file(model: Path, device: str | None) -> Embedder:
    config, network, device = _read(model, device)
    if not isinstance(config, ModelConfig):
        raise ValueError(f"{model} is a model of speech, and images were asked for: give it recordings")
    return Embedder(network, config.image, device, config.step)


def _of_onnx(model: Path, device: str | None) -> Embedder:
    _check_cpu(device)
    backbone = OnnxBackbone(model)
    return Embedder(backbone, backbone.image, "cpu", backbone.step)


def _speech_of_run(model: Path, device: str | None) -> SpeechEmbedder:
    trained = trained_backbone(RunFolder(model), device)
    front_end = trained.config.speech_data.front_end
    return SpeechEmbedder(trained.backbone, front_end, trained.device, trained.origin["step"])


def _speech_of_file(model: Path, device: str | None) -> SpeechEmbedder:
    config, network, device = _read(model, device)
    if not isinstance(config, SpeechModelConfig):
        raise ValueError(f"{model} is a model of images, and recordings were asked for: give it images")
    return SpeechEmbedder(network, config.front_end, device, config.step)


def _speech_of_onnx(model: Path, device: str | None) -> SpeechEmbedder:
    _check_cpu(device)
    backbone = OnnxSpeechBackbone(model)
    return SpeechEmbedder(backbone, backbone.front_end, "cpu", backbone.step)


def _read(model: Path, device: str | None) -> tuple[AnyModelConfig, nn.Module, str]:
    """Config and network of a model file, and the device where the network now is."""
    device = "cpu" if device is None else device
    check_device(device)
    config, network = read_model(model)
    return config, network.to(device), device


def _check_cpu(device: str | None) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"ONNX models run on the CPU here, got device {device!r}; leave it out")


_OPENERS: Mapping[str, Callable[[Path, str | None], Embedder]] = {SUFFIX: _of_file, ".onnx": _of_onnx}
_SPEECH_OPENERS: Mapping[str, Callable[[Path, str | None], SpeechEmbedder]] = {
    SUFFIX: _speech_of_file,
    ".onnx": _speech_of_onnx,
}
