"""ONNX models as backbones, a user's own of images or exported ones: the graph is data, and no code comes with it.

Conventions:
    Images: one input (batch, channels, height, width) float32, RGB (or luminance) in [-1, 1], batch not fixed to
    another number than 1; one output (batch, dim), or the first of several. Sizes are read off the model and fixed.
    A model that `qmargin export` wrote says in its metadata how images are decoded, and its training step.
    Speech: one input `features` (batch, frames, bins), batch and frames free; the front-end is in the metadata, so it
    must be one that `qmargin export` wrote.
    A TorchScript file is a program of its author: see `qmargin.scoring.torchscript_model`. Pickled ones are not opened.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qmargin.data import ImageFormat
from qmargin.training.codec import model_from_json
from qmargin.training.model_config import AnyModelConfig, SpeechModelConfig
from qmargin.training.model_file import MODEL_KEY


class OnnxBackbone(nn.Module):
    """An ONNX graph that maps images to embeddings on the CPU; needs the extra `qmargin[onnx]`.

    Args:
        path: of the .onnx file.

    Raises:
        ValueError: onnxruntime is not installed, the file is no ONNX model, or its input is no batch of images.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.session = _open(path)
        said = _said(self.session, path)
        if isinstance(said, SpeechModelConfig):
            raise ValueError(f"{path} is a model of speech, and images were asked for: give it recordings")
        (self.input, *others) = self.session.get_inputs()
        shape = self.input.shape
        sizes = shape[1:]
        if others or len(shape) != 4 or not all(isinstance(size, int) for size in sizes) or sizes[0] not in (1, 3):
            raise ValueError(
                f"{path}: the input must be one (batch, 1 or 3 channels, height, width) of fixed sizes, got "
                f"{[given.shape for given in (self.input, *others)]}; export the model with such an input"
            )
        self.image = ImageFormat(height=sizes[1], width=sizes[2], channels=sizes[0])
        self.step = 0
        self.fixed_batch = shape[0] == 1
        if said is not None:
            assert said.image.shape == self.image.shape, "the export wrote both"
            self.image, self.step = said.image, said.step

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, dim) of images (batch, channels, height, width)."""
        parts = images.split(1) if self.fixed_batch else (images,)
        found = [self.session.run(None, {self.input.name: part.cpu().numpy()})[0] for part in parts]
        vectors = np.concatenate(found)
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise ValueError(
                f"{self.path}: the first output must be (batch, dim), got {vectors.shape} for {len(images)} images"
            )
        return torch.from_numpy(vectors.astype(np.float32))


class OnnxSpeechBackbone(nn.Module):
    """An exported model of speech, on the CPU; needs the extra `qmargin[onnx]`.

    Args:
        path: of the .onnx file.

    Raises:
        ValueError: onnxruntime is not installed, the file is no ONNX model, or none of speech that qmargin exported.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.session = _open(path)
        said = _said(self.session, path)
        if not isinstance(said, SpeechModelConfig):
            kind = "does not say what features it takes" if said is None else "is a model of images"
            raise ValueError(
                f"{path} {kind}, and recordings were asked for: give a model of speech that qmargin export wrote"
            )
        self.front_end, self.step = said.front_end, said.step

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings (batch, dim) of features (batch, frames, bins), of which `lengths` (batch,) frames are there."""
        batch = features.cpu().numpy()
        parts = [batch] if lengths is None else [one[None, :long] for one, long in zip(batch, lengths, strict=True)]
        found = [self.session.run(None, {"features": part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found))


def _said(session: Any, path: Path) -> AnyModelConfig | None:  # noqa: ANN401 - a type of an optional library
    """What qmargin export wrote into the metadata; None in a model of somebody else."""
    ours = session.get_modelmeta().custom_metadata_map.get(MODEL_KEY)
    return None if ours is None else model_from_json(ours, str(path))


def _open(path: Path) -> Any:  # noqa: ANN401 - a type of an optional library
    try:
        import onnxruntime  # noqa: PLC0415 - an extra, not needed by anything else
    except ImportError as error:
        raise ValueError("ONNX models need onnxruntime: pip install 'qmargin[onnx]'") from error
    if not path.is_file():
        raise ValueError(f"no model at {path}")
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class but this one
        raise ValueError(f"{path} is no ONNX model that onnxruntime can run ({error})") from error
