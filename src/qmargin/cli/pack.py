"""`qmargin pack LIST --out FILE.bin`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from qmargin.cli.pairs import read_pairs
from qmargin.data import EncodedImage
from qmargin.protocols import write_bin


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Pack the images of a list of pairs into one .bin verification set, which every public training script reads.

    Image files are copied as they are, neither decoded nor aligned; pairs keep the order of the list, and with it the
    folds in file order (a column fold is not kept: a .bin set has none).

    Example: qmargin pack pairs.csv --out own.bin
    """

    pairs: Annotated[Path, tyro.conf.Positional]
    """A .csv with the columns path_a, path_b and same, or LFW's pairs.txt."""
    out: Path
    """The .bin file to write."""
    images: Path | None = None
    """Folder that the paths of a .csv, or the names of a .txt, are in; that of the list unless given."""
    suffix: str = ".jpg"
    """Ending of the images of a .txt list."""


def run(words: Sequence[str]) -> None:
    """Make a .bin verification set of a list of pairs and its images."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin pack")
    if arguments.out.suffix != ".bin":
        raise ValueError(f"--out must end in .bin, got {arguments.out}: the ending says how a list of pairs is read")
    pairs = read_pairs(arguments.pairs, arguments.images, arguments.suffix)
    contents = [
        bytes(image.content) if isinstance(image, EncodedImage) else image.read_bytes() for image in pairs.images
    ]
    write_bin(arguments.out, [contents[place] for place in pairs.sides.ravel()], pairs.same)
    Console().print(f"saved: {arguments.out}, {len(pairs):,} pairs", soft_wrap=True, markup=False)
