"""A backbone in one file: its weights, its config and what it takes, as safetensors; reading it runs no code.

The tensors have the names of the network's state dict; the header's metadata holds the config as JSON. Any reader of
safetensors opens the weights, and every command of qmargin that takes a run's folder to embed takes such a file too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from qmargin._files import replacing
from qmargin.data import ImageFormat
from qmargin.data.speech import FrontEnd
from qmargin.training.codec import model_from_json, model_to_json
from qmargin.training.config import TrainConfig
from qmargin.training.model_config import AnyModelConfig, ModelConfig, SpeechModelConfig
from qmargin.training.speech_data import SpeechDataConfig
from qmargin.training.tensorfile import Stored, TensorFileError, map_file, write_tensors
from qmargin.training.weights import load_weights

SUFFIX = ".safetensors"
MODEL_KEY = "qmargin_model"  # of the metadata, here and in exported ONNX models


def model_config(config: TrainConfig, source: str, step: int) -> AnyModelConfig:
    """What a model file says of the backbone of a training, on images or on speech.

    Args:
        config: of the training.
        source: see `ModelConfig`.
        step: of the weights.
    """
    if isinstance(config.data, SpeechDataConfig):
        return SpeechModelConfig(
            backbone=config.speech_backbone, front_end=config.data.front_end, source=source, step=step
        )
    return ModelConfig(backbone=config.image_backbone, image=config.data.image, source=source, step=step)


def model_input(config: TrainConfig) -> FrontEnd | ImageFormat:
    """What the backbone of a training takes; every checkpoint says it, the weights are of no use for anything else."""
    data = config.data
    return data.front_end if isinstance(data, SpeechDataConfig) else data.image


def write_model(path: Path, config: AnyModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a model file, atomically.

    Args:
        path: ends in .safetensors.
        config: what is said of it.
        weights: state dict of `config.backbone.build()`.

    Raises:
        ValueError: another ending, or the folder cannot be written.

    Sibling: `open_model`.
    """
    check_suffix(path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_tensors(file, dict(weights), {MODEL_KEY: model_to_json(config)})


@contextmanager
def open_model(path: Path) -> Iterator[tuple[AnyModelConfig, dict[str, Stored]]]:
    """Yield the config of a model file and its weights, which are still in the file.

    Raises:
        ValueError: the file is missing, damaged, or a safetensors file of somebody else.
    """
    check_suffix(path)
    if not path.is_file():
        raise ValueError(f"no model at {path}: there is no such file")
    try:
        with path.open("rb") as file:
            header, tensors = map_file(file)
            if MODEL_KEY not in header:
                raise ValueError(
                    f"{path} is a safetensors file without a qmargin model in it: weights alone do not say what takes "
                    "them; use a file of qmargin export or qmargin import, or the folder of a run"
                )
            yield model_from_json(header[MODEL_KEY], str(path)), tensors
    except (TensorFileError, OSError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}); put back a copy of it") from error


def read_model(path: Path) -> tuple[AnyModelConfig, nn.Module]:
    """The config and the network of a model file, in evaluation mode on the CPU; errors are those of `open_model`."""
    with open_model(path) as (config, weights):
        network = config.backbone.build()
        load_weights(network, weights)
    return config, network.eval()


def check_suffix(path: Path) -> None:
    """A model file says by its ending what it is."""
    if path.suffix != SUFFIX:
        raise ValueError(f"a model file ends in {SUFFIX}, got {path}")
