"""From samples to embeddings, no randomness: an image and its mirror, raw embeddings added; a recording as it is."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

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
from qmargin.scoring.speech import embed_utterances, listed_recordings
from qmargin.scoring.torchscript_model import TorchScriptBackbone
from qmargin.training import DataConfig, RunFolder, SpeechDataConfig, TrainConfig
from qmargin.training.checkpoint import State, open_checkpoint
from qmargin.training.codec import structured
from qmargin.training.manifest import check_manifest, read_samples
from qmargin.training.model_file import model_input
from qmargin.training.state import check_device
from qmargin.training.weights import load_weights


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


def embed_run(run: RunFolder, split: str, device: str | None = None) -> Embeddings:
    """Embed a split of a run's images or utterances with the run's newest checkpoint, and leave the .npz in its folder.

    Args:
        run: folder of the run.
        split: "train", "validation" or "test".
        device: where to compute; that of the training unless given.
    """
    model, samples = trained_samples(run, device)
    embeddings = model.embed(samples.subset(split))
    embeddings.save(run.embeddings(split))
    return embeddings


def trained_samples(run: RunFolder, device: str | None = None) -> "tuple[Trained, SampleTable]":
    """The newest weights of a run and the samples of all its splits; a ValueError where the data has changed since."""
    model = trained_backbone(run, device)
    samples = read_samples(model.config)
    check_manifest(samples, model.origin, run)
    return model, samples


def embed_files(run: RunFolder, files: Sequence[Path], device: str | None = None) -> Embeddings:
    """Embed any files with the newest checkpoint of a run; nothing is left in its folder.

    Args:
        run: folder of the run.
        files: images, or recordings where the run was trained on speech, each once; they are read as its config says.
        device: where to compute; that of the training unless given.

    Returns:
        Embeddings in the order of `files`, with paths from the root on and without identities (all "unknown").

    Raises:
        ValueError: the same file twice, a file that is no image or recording, or no checkpoint.
    """
    model = trained_backbone(run, device)
    speech = isinstance(model.config.data, SpeechDataConfig)
    return model.embed(listed_recordings(files) if speech else listed(files))


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


class Trained(NamedTuple):
    """The backbone of a run with its newest weights: their mean, where the run keeps one (`averaging`)."""

    config: TrainConfig
    backbone: nn.Module  # in evaluation mode, on `device`
    device: str
    origin: State  # "manifest" (digest) and "step" of the checkpoint

    def embed(self, samples: SampleTable) -> Embeddings:
        """Embeddings of samples of the config's kind, with the step of the weights."""
        found = embed_samples(self.backbone, samples, self.config.data, device=self.device)
        return replace(found, step=self.origin["step"])


def trained_backbone(run: RunFolder, device: str | None = None) -> Trained:
    """The newest checkpoint of a run, on its device unless another is given; errors name what is missing."""
    config = run.read_config()
    device = config.device if device is None else device
    check_device(device)
    backbone = config.backbone.build().to(device)
    with open_checkpoint(run.checkpoint) as saved:  # the head, often far larger, stays on the disk
        _check_input(saved, config, run)
        load_weights(backbone, saved.get("average") or saved["backbone"])
        origin = {"manifest": saved["manifest"], "step": int(saved["step"])}
    return Trained(config, backbone.eval(), device, origin)


def _check_input(saved: State, config: TrainConfig, run: RunFolder) -> None:
    """Refuse a config.json whose front-end or image format is not the one that the weights were trained on."""
    takes = model_input(config)
    if "input" not in saved:  # checkpoints of before do not say it
        return
    trained = structured(saved["input"], type(takes), str(run.checkpoint))
    if trained != takes:
        raise ValueError(
            f"{run.config} says what the weights of {run.checkpoint} were not trained on: put back its "
            f"{'front-end' if isinstance(trained, FrontEnd) else 'image'}, {trained}"
        )
