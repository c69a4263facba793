"""`qmargin embed MODEL --images DIR --out FILE`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from qmargin._files import make_folder
from qmargin.data.folders import IMAGE_EXTENSIONS
from qmargin.scoring import embed_files_with, open_embedder
from qmargin.scoring.vector_files import VectorSet


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Embed every image under a folder with a run's newest checkpoint, a model file or an ONNX model, into one .npz.

    The .npz holds ids (paths relative to the folder) and embeddings, raw (not of length one): the image's plus its
    mirror's. Another kind of model: embed with its own tools, and save numpy.savez(FILE, ids=..., embeddings=...).
    """

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a trained run; a .safetensors file of qmargin export or import; or an .onnx file: input
    (batch, channels, height, width), RGB in [-1, 1]."""
    images: Path
    """Folder that is searched for images, with all folders in it."""
    out: Path
    """The .npz to write."""
    device: str | None = None
    """Where to embed: cpu, cuda, ...; that of the training unless given. Files run on the CPU."""


def run(words: Sequence[str]) -> None:
    """Embed a folder of images with a run's model or an ONNX file, into an .npz of ids and embeddings."""
    arguments = tyro.cli(Arguments, args=list(words), prog="qmargin embed")
    if arguments.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, got {arguments.out}")
    files = sorted(file for file in arguments.images.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    if not files:
        raise ValueError(f"no image under {arguments.images}: looked for {' '.join(IMAGE_EXTENSIONS)}")
    make_folder(arguments.out.parent)
    embeddings = embed_files_with(open_embedder(arguments.model, arguments.device), files)
    ids = np.array([file.relative_to(arguments.images).as_posix() for file in files])
    VectorSet(ids, embeddings.vectors).save(arguments.out)
    shape = f"{len(files)} embeddings of dimension {embeddings.vectors.shape[1]}"
    Console().print(f"saved: {arguments.out} ({shape})", soft_wrap=True, markup=False)
