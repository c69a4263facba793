"""A user's own image model in TorchScript, as a backbone: a program, which is run only if its owner says so.

Conventions:
    One input (batch, channels, height, width) float32, RGB (or luminance) in [-1, 1]; one output (batch, dim). The file
    does not say what sizes it takes, so the caller does.
    `torch.jit.load` runs code of the file's author. ONNX files hold data alone: see `qmargin.scoring.onnx_model`.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

from qmargin.data import ImageFormat

ENDINGS = (".jit", ".pt", ".ts")


class TorchScriptBackbone(nn.Module):
    """A TorchScript module that maps images to embeddings.

    Args:
        path: of the file; its own code is run.
        image: size and channels of its input.
        device: where to run it.

    Raises:
        ValueError: no such file, or none that holds a TorchScript module.
    """

    def __init__(self, path: Path, image: ImageFormat, device: str = "cpu") -> None:
        super().__init__()
        self.path, self.image = path, image
        if not path.is_file():
            raise ValueError(f"no model at {path}")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
                self.module = torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            raise ValueError(
                f"{path} holds no TorchScript module; of a state dict or a pickled module export one with torch.jit or "
                f"torch.onnx.export ({str(error).splitlines()[0]})"
            ) from error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (batch, dim) of images (batch, channels, height, width)."""
        try:
            vectors = self.module(images)
        except RuntimeError as error:
            raise ValueError(
                f"{self.path} does not take images (batch, channels, height, width) {tuple(images.shape)}: "
                f"{str(error).strip().splitlines()[-1]}"
            ) from error
        if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(images):
            got = tuple(vectors.shape) if isinstance(vectors, torch.Tensor) else type(vectors).__name__
            raise ValueError(f"{self.path}: the output must be (batch, dim), got {got} for {len(images)} images")
        return vectors.float()
