"""`qmargin export RUN --onnx FILE --safetensors FILE --arcface-torch FILE --card FILE`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin._files import make_folder, write_text
from qmargin.backbones import IResNet, write_arcface_torch
from qmargin.cli._weights import WeightsOption
from qmargin.export import TrainedModel, export_onnx, model_card, read_trained
from qmargin.training import RunFolder
from qmargin.training.model_file import write_model


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a run's backbone for use elsewhere; any number of the files at once.

    Example: qmargin export runs/first --onnx first.onnx --card first.md
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    onnx: Path | None = None
    """ONNX model, any batch size, of speech any number of frames; compared with torch in onnxruntime. Needs the extra
    qmargin[onnx]."""
    safetensors: Path | None = None
    """Model file: weights, network, image format or front-end; qmargin embed, pairs, ijb and --init-from take it."""
    arcface_torch: Path | None = None
    """State dict under the names of arcface_torch (.pt, .pth), of an IResNet."""
    card: Path | None = None
    """Model card in Markdown: data by counts, recipe, and the figures that the run's folder holds."""
    weights: WeightsOption = "newest"


def run(words: Sequence[str]) -> None:
    """Write a run's backbone as ONNX, safetensors or arcface_torch's state dict, and its model card."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin export")
    asked = {path: write for path, write in _writers(arguments).items() if path is not None}
    if not asked:
        raise ValueError("say what to write: --onnx FILE, --safetensors FILE, --arcface-torch FILE or --card FILE")
    folder = RunFolder(arguments.run)
    model = read_trained(folder, weights=arguments.weights)
    for path, write in asked.items():
        make_folder(path.parent)
        said = write(folder, model, path)
        Console().print(f"saved: {path} ({said})", soft_wrap=True, markup=False, highlight=False)


Writer = Callable[[RunFolder, TrainedModel, Path], str]


def _writers(arguments: Arguments) -> dict[Path | None, Writer]:
    """What was asked for, by its file; files of one name would overwrite each other."""
    given: list[tuple[Path | None, Writer]] = [
        (arguments.onnx, _onnx),
        (arguments.safetensors, _safetensors),
        (arguments.arcface_torch, _arcface_torch),
        (arguments.card, _card),
    ]
    paths = [path for path, _ in given if path is not None]
    if len(set(paths)) < len(paths):
        raise ValueError(f"two files to write have one name: {', '.join(map(str, paths))}")
    return dict(given)


def _onnx(_folder: RunFolder, model: TrainedModel, path: Path) -> str:
    difference = export_onnx(model.config, model.network, path)
    return f"ONNX; directions within {difference:.1e} of torch's"


def _safetensors(_folder: RunFolder, model: TrainedModel, path: Path) -> str:
    write_model(path, model.config, model.network.state_dict())
    return f"weights of step {model.config.step:,}"


def _arcface_torch(_folder: RunFolder, model: TrainedModel, path: Path) -> str:
    network = model.network
    if not isinstance(network, IResNet):
        raise ValueError(
            f"arcface_torch names the layers of IResNets; this run's network is a {type(network).__name__}"
        )
    write_arcface_torch(network, path)
    return "state dict of arcface_torch"


def _card(folder: RunFolder, model: TrainedModel, path: Path) -> str:
    if path.suffix != ".md":
        raise ValueError(f"a model card is Markdown and ends in .md, got {path}")
    write_text(path, model_card(folder, model))
    return "model card"
