"""From images to embeddings: each image and its mirror, their raw embeddings added, no randomness."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from qmargin._files import replacing
from qmargin.data import ImageFormat, Manifest, normalise, read_manifest, sequential
from qmargin.training import RunFolder
from qmargin.training.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a set of images, in the order of the manifest."""

    vectors: NDArray[np.float32]  # (images, dim), raw
    identities: NDArray[np.str_]  # (images,)
    paths: NDArray[np.str_]  # (images,)

    def save(self, path: Path) -> None:
        """Write them as .npz, atomically."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, vectors=self.vectors, identities=self.identities, paths=self.paths)

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Read what `save` wrote; a ValueError names a file that is missing, damaged or something else."""
        if not path.is_file():
            raise ValueError(f"no embeddings at {path}: run qmargin evaluate on the run first")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["vectors"], arrays["identities"], arrays["paths"])
        except (BadZipFile, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not hold embeddings ({error}); run qmargin evaluate again") from error


def embed(
    backbone: nn.Module, manifest: Manifest, image: ImageFormat, *, batch_size: int = 128, device: str = "cpu"
) -> Embeddings:
    """Embed every image of a manifest: the raw embedding of the image plus that of its mirror, in float32.

    Args:
        backbone: (batch, channels, height, width) float32 in [-1, 1] -> (batch, dim); put into eval mode here.
        manifest: which images.
        image: how they are decoded.
        batch_size: images at a time.
        device: where the backbone is.

    Returns:
        Embeddings with vectors (images, dim), in the order of the manifest.
    """
    backbone.eval()
    parts: list[NDArray[np.float32]] = []
    total = -(-len(manifest) // batch_size)
    with torch.inference_mode(), closing(sequential(manifest, image, batch_size)) as stream:
        for batch in track(stream, "embedding", total=total, transient=True):
            images = normalise(batch.images.to(device))  # (batch, channels, height, width)
            both = backbone(images) + backbone(images.flip(-1))  # (batch, dim)
            parts.append(both.float().cpu().numpy())
    return Embeddings(np.concatenate(parts), np.array(manifest.identities), np.array(manifest.paths))


def embed_run(run: RunFolder, split: str) -> Embeddings:
    """Embed a split of a run's manifest with the run's newest checkpoint, and leave the .npz in its folder."""
    config = run.read_config()
    manifest = read_manifest(run.manifest, root=config.data.source.read().root).subset(split)
    backbone = config.backbone.build().to(config.device)
    backbone.load_state_dict(load_checkpoint(run.checkpoint, config.device)["backbone"])
    embeddings = embed(backbone, manifest, config.data.image, device=config.device)
    embeddings.save(run.embeddings(split))
    return embeddings
