"""`qmargin embed RUN --images DIR --out FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from qmargin._files import make_folder
from qmargin.data.folders import IMAGE_EXTENSIONS
from qmargin.scoring import embed_files
from qmargin.scoring.vector_files import VectorSet
from qmargin.training import RunFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed every image under a folder with a run's newest checkpoint, into one .npz of ids and embeddings.

    Ids are paths relative to the folder. The embedding is raw (not of length one): the image's plus its mirror's. A
    model of your own: embed with its own tools, and save numpy.savez(FILE, ids=..., embeddings=...).
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run."""
    images: Path
    """Folder that is searched for images, with all folders in it."""
    out: Path
    """The .npz to write."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given."""


def run(words: Sequence[str]) -> None:
    """Embed a folder of images with a run's model, into an .npz of ids and embeddings."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin embed")
    if arguments.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {arguments.out}")
    files = sorted(file for file in arguments.images.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    if not files:
        raise ValueError(f"no image under {arguments.images}: looked for {' '.join(IMAGE_EXTENSIONS)}")
    make_folder(arguments.out.parent)
    embeddings = embed_files(RunFolder(arguments.run), files, arguments.device)
    ids = np.array([file.relative_to(arguments.images).as_posix() for file in files])
    VectorSet(ids, embeddings.vectors).save(arguments.out)
    shape = f"{len(files)} embeddings of dimension {embeddings.vectors.shape[1]}"
    Console().print(f"saved: {arguments.out} ({shape}, training step {embeddings.step})", soft_wrap=True, markup=False)
