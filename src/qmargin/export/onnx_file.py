"""A backbone as an ONNX model: any batch size, compared with torch before it is called written.

    input  images      (batch, channels, height, width) float32 in [-1, 1], RGB or luminance
    output embeddings  (batch, dim) float32, raw

The metadata says the rest: `qmargin_model` (network, image format, source and step, as JSON) for programs, and
`preprocessing` and `embedding` for people.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qmargin._files import replacing
from qmargin.data import ImageFormat
from qmargin.scoring.onnx_model import OnnxBackbone
from qmargin.training.codec import to_json
from qmargin.training.model_file import MODEL_KEY, ModelConfig

TOLERANCE = 1e-4  # largest difference of a coordinate of the embedding's direction, onnxruntime against torch
BATCHES = (1, 3)  # sizes that are compared; the graph was traced with another one
OPSET = 18
EMBEDDING = "raw: add that of the mirrored image, divide by the length, compare by the dot product"


def export_onnx(config: ModelConfig, network: nn.Module, path: Path) -> float:
    """Write a network as ONNX and compare what onnxruntime makes of it with what torch does.

    Args:
        config: of the model; it goes into the metadata.
        network: in evaluation mode, on the CPU.
        path: ends in .onnx.

    Returns:
        The largest difference found, see `onnx_difference`.

    Raises:
        ValueError: another ending, the extra qmargin[onnx] is not installed, the two differ by more than 1e-4 (the
            file is then not left), or the folder cannot be written.

    Sibling: `qmargin.scoring.onnx_model.OnnxBackbone`, which embeds with it.
    """
    if path.suffix != ".onnx":
        raise ValueError(f"an ONNX model ends in .onnx, got {path}")
    program = _program(network, config.backbone.input_shape)
    program.model.metadata_props.update(
        {MODEL_KEY: to_json(config), "preprocessing": preprocessing(config.image), "embedding": EMBEDDING}
    )
    with replacing(path) as temporary:
        program.save(str(temporary))
        difference = onnx_difference(network, OnnxBackbone(temporary), config.backbone.input_shape)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported model gives other embeddings than torch: directions differ by {difference:.1e}, more "
                f"than {TOLERANCE:.0e}; nothing was written. Other versions of onnx and onnxruntime may export it well"
            )
    return difference


def onnx_difference(network: nn.Module, exported: nn.Module, shape: tuple[int, int, int]) -> float:
    """Largest difference of a coordinate of the embeddings' directions, over batches of noise.

    Args:
        network: in evaluation mode, on the CPU.
        exported: the same as `OnnxBackbone`.
        shape: (channels, height, width) of an image.

    Returns:
        max |e / |e| - e' / |e'||, e and e' the embeddings of the two.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.inference_mode():
        for batch in BATCHES:
            images = torch.rand(batch, *shape, generator=generator) * 2 - 1  # (batch, channels, height, width)
            ours, theirs = (nn.functional.normalize(model(images).double()) for model in (network, exported))
            found.append(float((ours - theirs).abs().amax()))
    return float(np.max(found))  # NaN stays NaN


def preprocessing(image: ImageFormat) -> str:
    """How pixels become the input, in words."""
    colours = "RGB" if image.channels == 3 else "luminance"
    size = {"exact": "of exactly that size", "resize": "scaled to that size"}[image.fit]
    return (
        f"{colours}, {image.height} pixels high and {image.width} wide ({size}), aligned as the training images; "
        "values x / 127.5 - 1, in [-1, 1]; layout (batch, channels, height, width)"
    )


def _program(network: nn.Module, shape: tuple[int, int, int]) -> torch.onnx.ONNXProgram:
    example = torch.zeros(2, *shape)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: batch},),
            )
        except ImportError as error:
            raise ValueError(
                f"exporting to ONNX needs onnx, onnxscript and onnxruntime ({error}): pip install 'qmargin[onnx]'"
            ) from error
    assert program is not None, "dynamo=True returns a program"
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of libraries it could use and of its own deprecations: nothing that a user could act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
