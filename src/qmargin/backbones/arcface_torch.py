"""Backbones as insightface's arcface_torch saves them (`backbone.pth`, `model.pt`): read without running code, written.

The file is a pickle of a `state_dict` whose names are ours: conv1, bn1, prelu, layer{1..4}.{i}.bn1/conv1/bn2/prelu/
conv2/bn3/downsample.0/.1, bn2, fc, features. It says nothing of the image: height and width are given, 112 unless said.

A pickle is a program. It is read by `torch.load(weights_only=True)`, which knows tensors, containers and nothing that
could be called; a file that asks for anything else is refused before any of it ran.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin._files import replacing
from qmargin.backbones.iresnet import DEPTHS, IResNet, IResNetConfig

Weights = Mapping[str, Tensor]

EXTENSIONS = (".pt", ".pth")
NESTED = "state_dict_backbone"  # where a whole checkpoint of arcface_torch (checkpoint_gpu_0.pt) has the backbone
PREFIX = "module."  # of DistributedDataParallel
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.bn1\.weight")


class Backbone(NamedTuple):
    """A network's config and its weights, by name."""

    config: IResNetConfig
    weights: dict[str, Tensor]  # float32, on the CPU

    def build(self) -> IResNet:
        """The network with these weights, in evaluation mode."""
        network = self.config.build()
        network.load_state_dict(self.weights)
        return network.eval()


def read_arcface_torch(path: Path, height: int = 112, input_width: int = 112) -> Backbone:
    """Read an IResNet that arcface_torch saved; blocks, width, channels and embedding size are those of its tensors.

    Args:
        path: `backbone.pth` or `model.pt` (a state dict), or a whole checkpoint with `state_dict_backbone` in it.
        height: of the images it takes, pixels; the file does not say.
        input_width: their width, pixels.

    Returns:
        Config and weights; `.build()` is the network. Half-precision weights become float32, exactly.

    Raises:
        ValueError: no such file, a file that is damaged or asks for code, tensors of another network (MobileFaceNet,
            ViT, an IResNet with squeeze-and-excitation), or a last layer for images of another size.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> network = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=8, height=32, input_width=32).build()
        >>> with TemporaryDirectory() as folder:
        ...     write_arcface_torch(network, Path(folder) / "backbone.pth")
        ...     read_arcface_torch(Path(folder) / "backbone.pth", height=32, input_width=32).config.blocks
        (1, 1, 1, 1)

    Reference: insightface, recognition/arcface_torch/backbones/iresnet.py. Sibling: `write_arcface_torch`.
    """
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in _tensors(path).items()
    }
    config = _config_of(weights, path, height, input_width)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in config.build().state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in (*expected, *found):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{path} holds no IResNet as arcface_torch has it: {name} is {found.get(name, 'not in it')}, an "
                f"IResNet of blocks {config.stages} for images {height} high and {input_width} wide has "
                f"{expected.get(name, 'no such tensor')}; give the height and width it was trained on"
            )
    return Backbone(config, weights)


def write_arcface_torch(network: IResNet, path: Path) -> None:
    """Write the weights of an IResNet as arcface_torch does: a state dict that its scripts load with `strict=True`.

    Args:
        network: any IResNet; arcface_torch itself builds only the published depths at 112x112, RGB.
        path: ends in .pt or .pth.

    Raises:
        ValueError: another network or ending, or the folder cannot be written.

    Sibling: `read_arcface_torch`.
    """
    if not isinstance(network, IResNet):
        raise ValueError(f"arcface_torch names the layers of IResNets; {type(network).__name__} has other ones")
    if path.suffix not in EXTENSIONS:
        raise ValueError(f"an arcface_torch backbone ends in {' or '.join(EXTENSIONS)}, got {path}")
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        torch.save(weights, temporary)


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"no backbone at {path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is an error here
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{path} is not read: it asks for more than tensors, which may run code of its author, or is damaged "
            f"({reason}); save its state_dict() alone, with torch.save, where you trust it"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no file of torch.save ({error})") from error
    if isinstance(document, Mapping) and NESTED in document:
        document = document[NESTED]
    if not isinstance(document, Mapping) or not document:
        raise ValueError(f"{path} holds a {type(document).__name__}, not the state dict of a backbone")
    strange = [name for name, value in document.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if strange:
        raise ValueError(
            f"{path} holds {strange[0]!r}, which is no tensor: give a file of the backbone's state_dict() alone"
        )
    wrapped = all(name.startswith(PREFIX) for name in document)
    return {name.removeprefix(PREFIX) if wrapped else name: tensor for name, tensor in document.items()}


def _config_of(weights: Weights, path: Path, height: int, input_width: int) -> IResNetConfig:
    """The config that the shapes of the tensors speak of."""
    blocks = tuple(
        sum(1 for name in weights if (match := _BLOCK.fullmatch(name)) and int(match[1]) == stage)
        for stage in (1, 2, 3, 4)
    )
    stem, last = weights.get("conv1.weight"), weights.get("fc.weight")
    if 0 in blocks or stem is None or stem.ndim != 4 or last is None or last.ndim != 2:
        raise ValueError(
            f"{path} holds no IResNet as arcface_torch names it (conv1.weight, layer1.0.bn1.weight, ..., fc.weight); "
            f"its first tensors are {', '.join(list(weights)[:3])}"
        )
    depth = next((depth for depth, known in DEPTHS.items() if known == blocks), None)
    return IResNetConfig(
        depth=depth,
        blocks=(blocks[0], blocks[1], blocks[2], blocks[3]) if depth is None else None,
        width=stem.shape[0],
        embedding_dim=last.shape[0],
        height=height,
        input_width=input_width,
        channels=stem.shape[1],
    )
