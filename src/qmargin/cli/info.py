"""`qmargin info [RUN]`."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import qmargin
from qmargin.cli.train import show_settings
from qmargin.recipes import RECIPES
from qmargin.training import RunFolder
from qmargin.training.log import read_log


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Describe this installation, or a run."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of a run; without it, versions, devices and recipes are shown."""


def run(words: Sequence[str]) -> None:
    """Show versions, devices and recipes, or the settings and progress of a run."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin info")
    if arguments.run is None:
        _installation()
    else:
        _run(RunFolder(arguments.run))


def _installation() -> None:
    cuda = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())) or "none"
    _show(
        "qmargin",
        {
            "version": qmargin.__version__,
            "python": platform.python_version(),
            "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
            "numpy": np.__version__,
            "cpu": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
            "cuda devices": cuda,
            "recipes": ", ".join(RECIPES),
        },
    )


def _run(folder: RunFolder) -> None:
    config = folder.read_config()
    show_settings(config)
    rows = read_log(folder.log) if folder.log.exists() else []
    if not rows:
        Console().print("no step logged yet: continue it with qmargin train ... --resume")
        return
    _show("last row of the log", {name: f"{value:g}" for name, value in rows[-1].items()})


def _show(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, box=None, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, escape(value))
    Console().print(table)
