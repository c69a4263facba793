"""From recordings to embeddings: whole utterances, without dither or changes, each the same whatever is beside it."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from qmargin.data import Manifest
from qmargin.data.batches import in_order
from qmargin.data.sampling import Indices
from qmargin.data.speech import FrontEnd, Utterances, recording_features


@dataclass(frozen=True, eq=False)
class SpeechEmbedder:
    """A backbone of speech ready to embed, with its front-end, where it is, and which training step it is of.

    Sibling: `qmargin.scoring.features.Embedder`, of images.
    """

    backbone: nn.Module  # features (batch, frames, bins), lengths (batch,) -> (batch, dim)
    front_end: FrontEnd
    device: str
    step: int = 0


READ_AHEAD = 64  # utterances that are read, and ordered by length, together


def embed_utterances(
    backbone: nn.Module,
    utterances: Utterances,
    front_end: FrontEnd,
    *,
    batch_size: int | None = None,
    device: str = "cpu",
    workers: int = 2,
    quiet: bool = False,
) -> NDArray[np.float32]:
    """Embed whole utterances; in a batch, shorter ones are padded and masked, which changes nothing but rounding.

    Args:
        backbone: features (batch, frames, bins), lengths (batch,) -> (batch, dim); put into eval mode here.
        utterances: which.
        front_end: how features are computed: that of the backbone's training.
        batch_size: utterances at a time, of about one length; None is 1 on the CPU, where a batch takes longer than
            its utterances by themselves (benchmarks/speech.py), and 8 elsewhere.
        device: where the backbone is.
        workers: threads that read recordings.
        quiet: show no progress bar, as inside another one.

    Returns:
        Raw embeddings (utterances, dim), in the order of the table.

    Raises:
        ValueError: what `recording_features` refuses; the recording is named.
    """
    backbone.eval()
    size = batch_size if batch_size is not None else 1 if device == "cpu" else 8
    found: dict[int, NDArray[np.float32]] = {}

    def rows_of(part: int) -> Indices:
        return np.arange(part * READ_AHEAD, min((part + 1) * READ_AHEAD, len(utterances)), dtype=np.int64)

    def read(_part: int, rows: Indices) -> list[tuple[int, Tensor]]:
        features = [(row, recording_features(utterances.recording(row), front_end)) for row in rows.tolist()]
        return [(row, torch.from_numpy(one)) for row, one in sorted(features, key=lambda pair: len(pair[1]))]

    parts = range(-(-len(utterances) // READ_AHEAD))
    with torch.inference_mode(), closing(in_order(parts, rows_of, read, workers)) as stream:
        for read_part in track(stream, "embedding", total=len(parts), transient=True, disable=quiet):
            for start in range(0, len(read_part), size):
                rows, features = map(list, zip(*read_part[start : start + size], strict=True))
                lengths = torch.tensor([len(one) for one in features], device=device)  # (batch,)
                batch = pad_sequence(features, batch_first=True).to(device)  # (batch, frames, bins)
                alike = int(lengths.min()) == batch.shape[1]
                vectors = backbone(batch, None if alike else lengths)  # (batch, dim)
                found.update(zip(rows, vectors.float().cpu().numpy(), strict=True))
    return np.stack([found[row] for row in range(len(utterances))])


def distinct_files(files: Sequence[Path]) -> tuple[list[Path], Indices]:
    """Each file once, whatever links and names lead to it, and the place of each of `files` among them (files,)."""
    places: dict[Path, int] = {}
    rows = [places.setdefault(file.resolve(), len(places)) for file in files]
    return list(places), np.array(rows, dtype=np.int64)


def listed_recordings(files: Sequence[Path]) -> Utterances:
    """A table of any audio files, named from the root on; a ValueError where one is listed twice (`distinct_files`)."""
    names = tuple(file.resolve().as_posix().removeprefix("/") for file in files)
    table = Manifest(Path("/"), names, ("unknown",) * len(names), ("test",) * len(names))
    return Utterances(table, names)
