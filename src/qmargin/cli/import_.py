"""`qmargin import FILE --out MODEL.safetensors`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin._files import make_folder
from qmargin.backbones import read_arcface_torch
from qmargin.data import ImageFormat
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import check_suffix, write_model


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Turn a backbone of arcface_torch (IResNet; backbone.pth, model.pt) into a model file, without running its code.

    The model file is taken by qmargin embed, pairs and ijb, and by --init-from of qmargin train.

    Example: qmargin import ms1mv3_arcface_r50/backbone.pth --out r50.safetensors
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The state dict that arcface_torch saved."""
    out: Path
    """The model file to write, .safetensors."""
    height: int = 112
    """Height of the images it was trained on, pixels; the file does not say."""
    input_width: int = 112
    """Their width, pixels."""


def run(words: Sequence[str]) -> None:
    """Turn a backbone of arcface_torch into a model file for embed, pairs, ijb and --init-from."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin import")
    check_suffix(arguments.out)
    config, weights = read_arcface_torch(arguments.file, arguments.height, arguments.input_width)
    image = ImageFormat(height=config.height, width=config.input_width, channels=config.channels)
    make_folder(arguments.out.parent)
    write_model(arguments.out, ModelConfig(backbone=config, image=image, source=arguments.file.name), weights)
    network = f"IResNet of blocks {config.stages}, embedding {config.embedding_dim}"
    Console().print(f"saved: {arguments.out} ({network})", soft_wrap=True, markup=False, highlight=False)
