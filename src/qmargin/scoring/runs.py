"""What a run has trained: its backbone, with the newest weights or the best ones, and embeddings with it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from torch import nn

from qmargin.data import ImageFormat
from qmargin.data.sample_table import SampleTable
from qmargin.data.speech import FrontEnd
from qmargin.scoring.embed import Embeddings, embed_samples, listed
from qmargin.scoring.speech import listed_recordings
from qmargin.training import RunFolder, SpeechDataConfig, TrainConfig
from qmargin.training.checkpoint import State, open_checkpoint
from qmargin.training.codec import structured
from qmargin.training.manifest import check_manifest, read_samples
from qmargin.training.model_config import ModelConfig
from qmargin.training.model_file import model_input, open_model
from qmargin.training.state import check_device
from qmargin.training.weights import load_weights

Weights = Literal["newest", "best"]


class Trained(NamedTuple):
    """The backbone of a run: with its newest weights (their mean, where it keeps one: `averaging`), or its best."""

    config: TrainConfig
    backbone: nn.Module  # in evaluation mode, on `device`
    device: str
    origin: State  # "manifest" (digest) of the samples, "step" of the weights

    def embed(self, samples: SampleTable) -> Embeddings:
        """Embeddings of samples of the config's kind, with the step of the weights."""
        found = embed_samples(self.backbone, samples, self.config.data, device=self.device)
        return replace(found, step=self.origin["step"])


def embed_run(run: RunFolder, split: str, device: str | None = None, *, weights: Weights = "newest") -> Embeddings:
    """Embed a split of a run's images or utterances, and leave the .npz in its folder.

    Args:
        run: folder of the run.
        split: "train", "validation" or "test".
        device: where to compute; that of the training unless given.
        weights: "newest", those of its last checkpoint, or "best", those of its best validation.

    Raises:
        ValueError: as `trained_backbone`, or the data has changed since the training.
    """
    model, samples = trained_samples(run, device, weights=weights)
    embeddings = model.embed(samples.subset(split))
    embeddings.save(run.embeddings(split))
    return embeddings


def embed_files(
    run: RunFolder, files: Sequence[Path], device: str | None = None, *, weights: Weights = "newest"
) -> Embeddings:
    """Embed any files with the backbone of a run; nothing is left in its folder.

    Args:
        run: folder of the run.
        files: images, or recordings where the run was trained on speech, each once; they are read as its config says.
        device: where to compute; that of the training unless given.
        weights: see `embed_run`.

    Returns:
        Embeddings in the order of `files`, with paths from the root on and without identities (all "unknown").

    Raises:
        ValueError: as `trained_backbone`; the same file twice, or a file that is no image or recording.
    """
    model = trained_backbone(run, device, weights=weights)
    speech = isinstance(model.config.data, SpeechDataConfig)
    return model.embed(listed_recordings(files) if speech else listed(files))


def trained_samples(
    run: RunFolder, device: str | None = None, *, weights: Weights = "newest"
) -> tuple[Trained, SampleTable]:
    """The backbone of a run and the samples of all its splits; a ValueError where the data has changed since."""
    model = trained_backbone(run, device, weights=weights)
    samples = read_samples(model.config)
    check_manifest(samples, model.origin, run)
    return model, samples


def trained_backbone(run: RunFolder, device: str | None = None, *, weights: Weights = "newest") -> Trained:
    """The backbone of a run, on its device unless another is given.

    Args:
        run: folder of the run.
        device: where to put it.
        weights: see `embed_run`.

    Raises:
        ValueError: the folder is no run, or has no such weights; its config.json is not that of the weights.
    """
    config = run.read_config()
    device = config.device if device is None else device
    check_device(device)
    backbone = config.backbone.build().to(device)
    with open_checkpoint(run.checkpoint) as saved:  # the head, often far larger, stays on the disk
        origin = {"manifest": saved["manifest"], "step": int(saved["step"])}
        if weights == "newest":
            _check_checkpoint(saved, config, run)
            load_weights(backbone, saved.get("average") or saved["backbone"])
    if weights == "best":
        origin["step"] = _load_best(backbone, config, run)
    return Trained(config, backbone.eval(), device, origin)


def _load_best(backbone: nn.Module, config: TrainConfig, run: RunFolder) -> int:
    """Load the weights of the best validation; their step."""
    if not run.best.exists():
        raise ValueError(
            f"{run.path} has no {run.best.name}: only a training with --validation.watch keeps the weights of its best "
            "validation; use the newest ones"
        )
    with open_model(run.best) as (said, best):
        _check_input(said.image if isinstance(said, ModelConfig) else said.front_end, config, run.config, run.best)
        load_weights(backbone, best)
    return said.step


def _check_checkpoint(saved: State, config: TrainConfig, run: RunFolder) -> None:
    if "input" in saved:  # checkpoints of before do not say it
        takes = structured(saved["input"], type(model_input(config)), str(run.checkpoint))
        _check_input(takes, config, run.config, run.checkpoint)


def _check_input(trained: FrontEnd | ImageFormat, config: TrainConfig, written: Path, weights: Path) -> None:
    """Refuse a config.json whose front-end or image format is not the one that the weights were trained on."""
    if trained != model_input(config):
        raise ValueError(
            f"{written} says what the weights of {weights} were not trained on: put back its "
            f"{'front-end' if isinstance(trained, FrontEnd) else 'image'}, {trained}"
        )
