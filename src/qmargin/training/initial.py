"""The first weights of a run that does not start from chance: those of a run, a model file, or arcface_torch."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from qmargin.backbones import IResNet, read_arcface_torch
from qmargin.backbones.arcface_torch import EXTENSIONS
from qmargin.data import ImageFormat
from qmargin.data.speech import FrontEnd
from qmargin.training.checkpoint import State
from qmargin.training.codec import leaves, shown, structured
from qmargin.training.folder import RunFolder
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import SUFFIX, model_input, open_model
from qmargin.training.newest import newest_state
from qmargin.training.parallel import fill
from qmargin.training.prototypes import Prototypes
from qmargin.training.weights import check_fit, load_weights

Input = FrontEnd | ImageFormat

ADVICE = "init_from needs the same network: set the backbone's fields to those of the file"
# What weights are for, and no shape shows. Dither, mixing and resampling are the training's own; sizes show in shapes.
OF_SPEECH = ("bins", "window", "wave_scale", "subtract_mean", "audio.sample_rate")
OF_IMAGES = ("channels",)


def load_initial(path: Path, backbone: nn.Module, takes: Input, prototypes: Prototypes | None = None) -> None:
    """Overwrite fresh weights.

    Args:
        path: a run's folder (its newest checkpoint; the mean of the weights where it keeps one), a model file
            (.safetensors), or a backbone of arcface_torch (.pt, .pth), which is read without running code.
        backbone: its weights are replaced.
        takes: what the backbone takes in the new training.
        prototypes: to be replaced too, where given; `path` is then a run of the same identities.

    Raises:
        ValueError: no such file, another network, weights for another front-end or other channels, other identities, a
            speed that the run did not have, or a file without prototypes.
    """
    if prototypes is not None and path.suffix in _READERS:
        raise ValueError(f"init_head needs the folder of a run: {path} holds a backbone alone")
    if path.suffix in _READERS:
        _READERS[path.suffix](path, backbone, takes)
    else:
        _of_run(RunFolder(path), backbone, takes, prototypes)


def _of_run(run: RunFolder, backbone: nn.Module, takes: Input, prototypes: Prototypes | None) -> None:
    if not run.has_checkpoint():
        raise ValueError(f"no checkpoint at {run.path}: init_from is the folder of a run that has one, or a model file")
    other_speeds = None if prototypes is None else prototypes.other_speeds(run)
    rows_of = None if prototypes is None or other_speeds else prototypes.head  # other speeds number classes otherwise
    with newest_state(run, rows_of) as saved:
        assert saved is not None, "has_checkpoint said so"
        _check_input(run.path, _input_of(run, saved), takes)
        if prototypes is not None:
            prototypes.check_identities(run)
        load_weights(backbone, saved.get("average") or saved["backbone"], ADVICE)
        if prototypes is not None:
            prototypes.load(saved["head"], other_speeds)


def _input_of(run: RunFolder, saved: State) -> Input:
    """What the weights of a checkpoint take; those of before do not say it, and their run's config does."""
    said = model_input(run.read_config())
    return structured(saved["input"], type(said), str(run.path)) if "input" in saved else said


def _check_input(path: Path, trained: Input, takes: Input) -> None:
    """Refuse weights that were trained on something else than they would now be given."""
    if type(trained) is not type(takes):
        raise ValueError(f"{path} holds weights for {_kind(trained)}, this training is on {_kind(takes)}: {ADVICE}")
    part, names = ("front_end", OF_SPEECH) if isinstance(takes, FrontEnd) else ("image", OF_IMAGES)
    there, here = leaves(trained), leaves(takes)
    other = [name for name in names if there[name] != here[name]]
    if other:
        values = "; ".join(f"{part}.{name} {shown(there[name])}, not {shown(here[name])}" for name in other)
        flags = " ".join(f"--data.{part}.{name}".replace("_", "-") + f" {shown(there[name])}" for name in other)
        raise ValueError(f"{path} holds weights for {values} as in this training: set {flags}, or leave init_from off")


def _kind(takes: Input) -> str:
    return "speech" if isinstance(takes, FrontEnd) else "images"


def _of_model_file(path: Path, backbone: nn.Module, takes: Input) -> None:
    with open_model(path) as (said, weights):
        _check_input(path, said.image if isinstance(said, ModelConfig) else said.front_end, takes)
        load_weights(backbone, weights, ADVICE)


def _of_arcface_torch(path: Path, backbone: nn.Module, _: Input) -> None:
    if not isinstance(backbone, IResNet):
        raise ValueError(f"{path} holds an IResNet of arcface_torch, the config's network is {type(backbone).__name__}")
    weights = read_arcface_torch(path, backbone.config.height, backbone.config.input_width).weights
    check_fit(backbone, weights, ADVICE)
    targets = backbone.state_dict()
    for name, values in weights.items():
        fill(targets[name], values)


_READERS: Mapping[str, Callable[[Path, nn.Module, Input], None]] = {
    SUFFIX: _of_model_file,
    **dict.fromkeys(EXTENSIONS, _of_arcface_torch),
}
