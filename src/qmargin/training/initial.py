"""The first weights of a run that does not start from chance: those of a run, a model file, or arcface_torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from qmargin.backbones import IResNet, read_arcface_torch
from qmargin.backbones.arcface_torch import EXTENSIONS
from qmargin.heads import Head, ShardedHead
from qmargin.training.folder import RunFolder
from qmargin.training.model_file import SUFFIX, open_model
from qmargin.training.newest import newest_state
from qmargin.training.parallel import fill
from qmargin.training.speech_data import SpeechDataConfig
from qmargin.training.weights import AnyStored, check_fit, load_weights

SAME_HEAD = "init_head needs the same identities and head: leave it off"
PROTOTYPES = ("weight",)  # of a head; its base measure is a setting of the new run
ADVICE = "init_from needs the same network: set the backbone's fields to those of the file"


def load_initial(
    path: Path, backbone: nn.Module, head: Head | None = None, speeds: Sequence[float] | None = None
) -> None:
    """Overwrite fresh weights.

    Args:
        path: a run's folder (its newest checkpoint; the mean of the weights where it keeps one), a model file
            (.safetensors), or a backbone of arcface_torch (.pt, .pth), which is read without running code.
        backbone: its weights are replaced.
        head: its prototypes (of a `ShardedHead` those of its rank) are replaced too, where given; `path` is then a run
            of the same identities.
        speeds: of the new training on speech, in the order of their blocks of classes (`SpeechAugmentation.blocks`);
            where the run in `path` had others beside these, the prototypes of its others are dropped.

    Raises:
        ValueError: no such file, another network, other numbers of identities, a speed that the run did not have, or a
            file without prototypes.
    """
    if head is not None and path.suffix in _READERS:
        raise ValueError(f"init_head needs the folder of a run: {path} holds a backbone alone")
    if path.suffix in _READERS:
        _READERS[path.suffix](path, backbone)
        return
    run = RunFolder(path)
    theirs = None if head is None or speeds is None else _speeds_of(run)
    other_speeds = theirs is not None and tuple(speeds or ()) != theirs  # its classes are numbered otherwise
    with newest_state(run, None if other_speeds else head) as saved:
        if saved is None:
            raise ValueError(f"no checkpoint at {path}: init_from is the folder of a run that has one, or a model file")
        load_weights(backbone, saved.get("average") or saved["backbone"], ADVICE)
        if head is not None and other_speeds:
            _load_speeds(head, saved["head"], speeds or (), theirs or ())
        elif head is not None:
            load_weights(head, saved["head"], SAME_HEAD, PROTOTYPES)


def _speeds_of(run: RunFolder) -> tuple[float, ...] | None:
    """Speeds of a run on speech, in the order of their blocks of classes."""
    data = run.read_config().data
    return data.augmentation.blocks if isinstance(data, SpeechDataConfig) else None


def _load_speeds(head: Head, stored: Mapping[str, AnyStored], ours: Sequence[float], theirs: Sequence[float]) -> None:
    """The blocks of classes of those speeds that both trainings have; a sharded head takes its rows of them."""
    unknown = [speed for speed in ours if speed not in theirs]
    if unknown:
        raise ValueError(
            f"init_head takes the prototypes of each speed, and the run in init_from had the speeds "
            f"{', '.join(map('{:g}'.format, theirs))}, not {unknown[0]:g}: set data.augmentation.speeds to some of "
            "them, or leave init_head off"
        )
    prototypes = stored["weight"].read()  # (classes, dim)
    classes = len(prototypes)
    blocks = torch.arange(classes).view(len(theirs), -1)  # (speeds, speakers)
    rows = torch.cat([blocks[theirs.index(speed)] for speed in ours])  # (classes kept,)
    if len(rows) != head.num_classes:
        raise ValueError(
            f"the run in init_from has {len(rows)} classes at these speeds, not {head.num_classes}: {SAME_HEAD}"
        )
    if isinstance(head, ShardedHead):
        rows = rows[head.class_range.start : head.class_range.stop]
    kept = {"weight": prototypes[rows]}
    check_fit(head, kept, SAME_HEAD, PROTOTYPES)
    head.load_state_dict(kept, strict=False)


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
