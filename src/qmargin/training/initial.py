"""The first weights of a run that does not start from chance: those of a run, a model file, or arcface_torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from qmargin.backbones import IResNet, read_arcface_torch
from qmargin.backbones.arcface_torch import EXTENSIONS
from qmargin.heads import Head
from qmargin.training.folder import RunFolder
from qmargin.training.model_file import SUFFIX, open_model
from qmargin.training.newest import newest_state
from qmargin.training.parallel import fill
from qmargin.training.weights import check_fit, load_weights

ADVICE = "init_from needs the same network: set the backbone's fields to those of the file"


def load_initial(path: Path, backbone: nn.Module, head: Head | None = None) -> None:
    """Overwrite fresh weights.

    Args:
        path: a run's folder (its newest checkpoint; the mean of the weights where it keeps one), a model file
            (.safetensors), or a backbone of arcface_torch (.pt, .pth), which is read without running code.
        backbone: its weights are replaced.
        head: its prototypes (of a `ShardedHead` those of its rank) are replaced too, where given; `path` is then a run
            of the same identities.

    Raises:
        ValueError: no such file, another network, other numbers of identities, or a file without prototypes.
    """
    if head is not None and path.suffix in _READERS:
        raise ValueError(f"init_head needs the folder of a run: {path} holds a backbone alone")
    if path.suffix in _READERS:
        _READERS[path.suffix](path, backbone)
        return
    with newest_state(RunFolder(path), head) as saved:
        if saved is None:
            raise ValueError(f"no checkpoint at {path}: init_from is the folder of a run that has one, or a model file")
        load_weights(backbone, saved.get("average") or saved["backbone"], ADVICE)
        if head is not None:
            load_weights(head, saved["head"], "init_head needs the same identities and head: leave it off")


def _of_model_file(path: Path, backbone: nn.Module) -> None:
    with open_model(path) as (_, weights):
        load_weights(backbone, weights, ADVICE)


def _of_arcface_torch(path: Path, backbone: nn.Module) -> None:
    if not isinstance(backbone, IResNet):
        raise ValueError(f"{path} holds an IResNet of arcface_torch, the config's network is {type(backbone).__name__}")
    weights = read_arcface_torch(path, backbone.config.height, backbone.config.input_width).weights
    check_fit(backbone, weights, ADVICE)
    targets = backbone.state_dict()
    for name, values in weights.items():
        fill(targets[name], values)


_READERS: Mapping[str, Callable[[Path, nn.Module], None]] = {
    SUFFIX: _of_model_file,
    **dict.fromkeys(EXTENSIONS, _of_arcface_torch),
}
