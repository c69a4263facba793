"""A user's own image model in ONNX, as a backbone: its graph is data, and no code comes with it.

Conventions:
    One input (batch, channels, height, width) float32, RGB (or luminance) in [-1, 1], batch not fixed to another number
    than 1; one output (batch, dim), or the first of several. Sizes are read off the model and fixed.
    A model that `qmargin export` wrote says in its metadata how images are decoded, and its training step.
    A TorchScript file is a program of its author: see `qmargin.scoring.torchscript_model`. Pickled ones are not opened.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qmargin.data import ImageFormat
from qmargin.training.codec import structured
from qmargin.training.model_file import MODEL_KEY, ModelConfig


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
        ours = self.session.get_modelmeta().custom_metadata_map.get(MODEL_KEY)
        if ours is not None:
            said = structured(ours, ModelConfig, str(path))
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
