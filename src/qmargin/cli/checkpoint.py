"""`qmargin checkpoint reshard SOURCE TARGET --ranks N`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin.training.reshard import reshard


@dataclass(frozen=True, kw_only=True)
class Reshard:
    """Write a checkpoint for another number of ranks: 1 is one safetensors file, more is a folder of shards."""

    source: Annotated[Path, tyro.conf.Positional]
    """checkpoint.safetensors of a run, or the folder step-N of a sharded one."""
    target: Annotated[Path, tyro.conf.Positional]
    """New file (1 rank) or new folder (more)."""
    ranks: int
    """Ranks that will read it."""


def run(words: Sequence[str]) -> None:
    """Write a checkpoint for another number of ranks (qmargin checkpoint reshard)."""
    if words and words[0] not in ("reshard", "-h", "--help"):
        raise ValueError(f"qmargin checkpoint knows one thing to do, reshard, got {words[0]!r}")
    rest = words[1:] if words and words[0] == "reshard" else ["--help"]
    arguments = tyro.cli(Reshard, args=rest, prog="qmargin checkpoint reshard")
    reshard(arguments.source, arguments.target, arguments.ranks)
    Console().print(f"written: {arguments.target}", soft_wrap=True, markup=False)
