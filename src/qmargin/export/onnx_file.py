"""A backbone as an ONNX model: any batch, speech of any length, compared with torch before it is called written.

    input  images      (batch, channels, height, width) float32 in [-1, 1], RGB or luminance
    or     features    (batch, frames, bins) float32, as the front-end in the metadata makes them
    output embeddings  (batch, dim) float32, raw

The metadata says the rest: `qmargin_model` (network, image format or front-end, source and step, as JSON) for programs,
and `preprocessing` and `embedding` for people.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qmargin._files import replacing
from qmargin.export.interface import Interface, interface_of
from qmargin.scoring.onnx_model import OnnxBackbone, OnnxSpeechBackbone
from qmargin.training.codec import model_to_json
from qmargin.training.model_config import AnyModelConfig, SpeechModelConfig
from qmargin.training.model_file import MODEL_KEY

TOLERANCE = 1e-4  # largest difference of a coordinate of the embedding's direction, onnxruntime against torch
OPSET = 18


def export_onnx(config: AnyModelConfig, network: nn.Module, path: Path) -> float:
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

    Siblings: `qmargin.scoring.onnx_model.OnnxBackbone` and `OnnxSpeechBackbone`, which embed with it.
    """
    if path.suffix != ".onnx":
        raise ValueError(f"an ONNX model ends in .onnx, got {path}")
    interface = interface_of(config)
    program = _program(network, interface)
    program.model.metadata_props.update(
        {
            MODEL_KEY: model_to_json(config),
            "preprocessing": interface.preprocessing,
            "embedding": interface.embedding,
        }
    )
    reader = OnnxSpeechBackbone if isinstance(config, SpeechModelConfig) else OnnxBackbone
    with replacing(path) as temporary:
        program.save(str(temporary))
        difference = onnx_difference(network, reader(temporary), interface.tried, interface.spread)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported model gives other embeddings than torch: directions differ by {difference:.1e}, more "
                f"than {TOLERANCE:.0e}; nothing was written. Other versions of onnx and onnxruntime may export it well"
            )
    return difference


def onnx_difference(
    network: nn.Module, exported: nn.Module, shapes: Sequence[tuple[int, ...]], spread: float = 1.0
) -> float:
    """Largest difference of a coordinate of the embeddings' directions, over batches of noise.

    Args:
        network: in evaluation mode, on the CPU.
        exported: the same as `OnnxBackbone` or `OnnxSpeechBackbone`.
        shapes: of the batches, (batch, ...).
        spread: the noise is uniform in [-spread, spread].

    Returns:
        max |e / |e| - e' / |e'||, e and e' the embeddings of the two.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.inference_mode():
        for shape in shapes:
            inputs = (torch.rand(shape, generator=generator) * 2 - 1) * spread  # (batch, ...)
            ours, theirs = (nn.functional.normalize(model(inputs).double()) for model in (network, exported))
            found.append(float((ours - theirs).abs().amax()))
    return float(np.max(found))  # NaN stays NaN


def _program(network: nn.Module, interface: Interface) -> torch.onnx.ONNXProgram:
    example = torch.zeros(interface.traced)
    free = {axis: torch.export.Dim(name, min=1) for axis, name in interface.free.items()}
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                optimize=False,  # it takes an added 1e-8 for 0, and runtimes fold batch norms themselves
                opset_version=OPSET,
                input_names=[interface.input],
                output_names=["embeddings"],
                dynamic_shapes=(free,),
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
