"""From the path of a model to what embeds with it: a run's folder, a model file (.safetensors), or an ONNX model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qmargin.scoring.embed import Embeddings, embed, listed
from qmargin.scoring.features import Embedder
from qmargin.scoring.onnx_model import OnnxBackbone
from qmargin.scoring.torchscript_model import ENDINGS as TORCHSCRIPT
from qmargin.training import RunFolder
from qmargin.training.model_file import SUFFIX, read_model
from qmargin.training.state import check_device

PICKLED = (".bin", ".ckpt", ".pkl", ".pth")  # files of models that are as a rule pickles


def open_embedder(model: Path, device: str | None = None) -> Embedder:
    """The backbone of a model, ready to embed.

    Args:
        model: folder of a trained run (its newest checkpoint), `.safetensors` of qmargin export or import, or `.onnx`.
        device: where to compute; that of the training for a run, the CPU for a file, unless given.

    Raises:
        ValueError: no such model, a kind that is not opened, or an ONNX model on another device than the CPU.
    """
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
    return _OPENERS.get(model.suffix, _of_run)(model, device)


def embed_files_with(embedder: Embedder, files: Sequence[Path]) -> Embeddings:
    """Embed any images, each once: the raw embedding of the image plus that of its mirror, in the order of `files`."""
    found = embed(embedder.backbone, listed(files), embedder.image, device=embedder.device)
    return replace(found, step=embedder.step)


def _of_run(model: Path, device: str | None) -> Embedder:
    return Embedder.of_run(RunFolder(model), device)


def _of_file(model: Path, device: str | None) -> Embedder:
    device = "cpu" if device is None else device
    check_device(device)
    config, network = read_model(model)
    return Embedder(network.to(device), config.image, device, config.step)


def _of_onnx(model: Path, device: str | None) -> Embedder:
    if device not in (None, "cpu"):
        raise ValueError(f"ONNX models run on the CPU here, got device {device!r}; leave it out")
    backbone = OnnxBackbone(model)
    return Embedder(backbone, backbone.image, "cpu", backbone.step)


_OPENERS: Mapping[str, Callable[[Path, str | None], Embedder]] = {SUFFIX: _of_file, ".onnx": _of_onnx}
