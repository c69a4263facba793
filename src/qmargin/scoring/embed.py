"""From samples to embeddings, no randomness: an image and its mirror, raw embeddings added; a recording as it is."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from qmargin._files import read_arrays, write_arrays
from qmargin.data import ImageFormat, Manifest, Samples, normalise, sequential
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech import FrontEnd, Utterances
from qmargin.scoring.onnx_model import OnnxBackbone
from qmargin.scoring.speech import embed_utterances
from qmargin.scoring.torchscript_model import TorchScriptBackbone
from qmargin.training import DataConfig, SpeechDataConfig
from qmargin.training.state import check_device


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a set of images or utterances, in the order of the manifest."""

    vectors: NDArray[np.float32]  # (samples, dim), raw
    identities: NDArray[np.str_]  # (samples,)
    paths: NDArray[np.str_]  # (samples,)
    step: int = 0  # of the training that made the backbone; 0 where that is not known

    def save(self, path: Path) -> None:
        """Write them as .npz, atomically."""
        write_arrays(path, vectors=self.vectors, identities=self.identities, paths=self.paths, step=np.array(self.step))

    @classmethod
    def load(cls, path: Path) -> "Embeddings":
        """Read what `save` wrote; a ValueError names a file that is missing, damaged or something else."""
        names = ("vectors", "identities", "paths", "step")
        vectors, identities, paths, step = read_arrays(path, *names, what="embeddings")
        return cls(vectors, identities, paths, int(step))


def embed(
    backbone: nn.Module,
    manifest: Samples,
    image: ImageFormat,
    *,
    batch_size: int = 128,
    device: str = "cpu",
    quiet: bool = False,
    workers: int = 2,
    processes: bool = False,
) -> Embeddings:
    """Embed every image of a manifest: the raw embedding of the image plus that of its mirror, in float32.

    Args:
        backbone: (batch, channels, height, width) float32 in [-1, 1] -> (batch, dim); put into eval mode here.
        manifest: which images.
        image: how they are decoded.
        batch_size: images at a time.
        device: where the backbone is.
        quiet: show no progress bar, as inside another one.
        workers: what decodes images beside the backbone: threads or, with `processes`, processes; pixels are the same.
        processes: see there.

    Returns:
        Embeddings with vectors (images, dim), in the order of the manifest.
    """
    batches = embedding_batches(
        backbone,
        manifest,
        image,
        batch_size=batch_size,
        device=device,
        quiet=quiet,
        workers=workers,
        processes=processes,
    )
    vectors = np.concatenate([both.cpu().numpy() for both in batches])
    paths, identities, _ = zip(*manifest.rows(), strict=True)
    return Embeddings(vectors, np.array(identities), np.array(paths))


def embed_samples(
    backbone: nn.Module,
    samples: SampleTable,
    data: DataConfig | SpeechDataConfig,
    *,
    device: str = "cpu",
    quiet: bool = False,
) -> Embeddings:
    """Embed the samples of a config's source, images or utterances, each as its kind is embedded, by its workers."""
    if isinstance(data, SpeechDataConfig):
        assert isinstance(samples, Utterances), "of the config's kind"
        return embed_recordings(backbone, samples, data.front_end, device=device, quiet=quiet, workers=data.workers)
    return embed(
        backbone,
        cast("Samples", samples),
        data.image,
        device=device,
        quiet=quiet,
        workers=data.workers,
        processes=data.processes,
    )


def embed_recordings(
    backbone: nn.Module,
    utterances: Utterances,
    front_end: FrontEnd,
    *,
    device: str = "cpu",
    quiet: bool = False,
    workers: int = 2,
) -> Embeddings:
    """Embed the utterances of a table, each whole, by `embed_utterances`."""
    vectors = embed_utterances(backbone, utterances, front_end, device=device, workers=workers, quiet=quiet)
    paths, identities, _ = zip(*utterances.rows(), strict=True)
    return Embeddings(vectors, np.array(identities), np.array(paths))


def embedding_batches(
    backbone: nn.Module,
    manifest: Samples,
    image: ImageFormat,
    *,
    batch_size: int = 128,
    device: str = "cpu",
    quiet: bool = False,
    workers: int = 2,
    processes: bool = False,
) -> Iterator[Tensor]:
    """Yield the embeddings of `embed` batch after batch, (batch, dim) float32 on the device: for large sets."""
    backbone.eval()
    total = -(-len(manifest) // batch_size)
    with closing(sequential(manifest, image, batch_size, workers, processes=processes)) as stream:
        for batch in track(stream, "embedding", total=total, transient=True, disable=quiet):
            with torch.inference_mode():  # not across the yield: it would hold for the caller too
                images = normalise(batch.images.to(device))  # (batch, channels, height, width)
                both: Tensor = (backbone(images) + backbone(images.flip(-1))).float()  # (batch, dim)
            yield both


def embed_files_onnx(model: Path, files: Sequence[Path]) -> Embeddings:
    """Embed any images with a user's own ONNX model: as `embed_files`, sizes read off the model, on the CPU.

    Raises:
        ValueError: as `OnnxBackbone`; the same file twice, or an image of another size than the model's input.

    See also `qmargin.scoring.onnx_model`, which says what the model must be like.
    """
    backbone = OnnxBackbone(model)
    return embed(backbone, listed(files), backbone.image)


def embed_files_torchscript(
    model: Path, files: Sequence[Path], image: ImageFormat, device: str | None = None
) -> Embeddings:
    """Embed any images with a user's own TorchScript model, whose code is run: as `embed_files`.

    Raises:
        ValueError: as `TorchScriptBackbone`; the same file twice, or an image of another size than `image`.
    """
    device = "cpu" if device is None else device
    check_device(device)
    return embed(TorchScriptBackbone(model, image, device), listed(files), image, device=device)


def listed(files: Sequence[Path]) -> Manifest:
    """A manifest of any files, from the root on."""
    names = tuple(file.resolve().as_posix().removeprefix("/") for file in files)
    return Manifest(Path("/"), names, ("unknown",) * len(names), ("test",) * len(names))
