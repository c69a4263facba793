"""The classes in chunks, each with the labels of the batch that fall into it."""

from typing import NamedTuple

import torch
from torch import Tensor

SCORES = 1 << 19  # of a chunk and the batch: in low precision they fit the second-level cache of a core
MULTIPLE = 16


class Chunk(NamedTuple):
    """Classes first, ..., last - 1."""

    first: int
    last: int
    own: tuple[Tensor, Tensor] | None  # (class - first, row) of the labels among them, both (labels,); None: none

    @property
    def size(self) -> int:
        """Number of classes."""
        return self.last - self.first


def default_chunk(batch: int, classes: int) -> int:
    """Classes a chunk, so that its scores stay in the cache: a multiple of 16, at most what all classes need."""
    fitting = max(SCORES // batch, 256)
    return -(-min(fitting, classes) // MULTIPLE) * MULTIPLE


def chunks_of(labels: Tensor, classes: int, chunk: int) -> list[Chunk]:
    """All classes in order; one host read of the labels (batch,)."""
    order = labels.argsort(stable=True)
    ordered = labels[order]
    firsts = range(0, classes, chunk)
    edges = torch.searchsorted(ordered, torch.tensor([*firsts, classes], device=labels.device)).tolist()
    return [
        Chunk(
            first,
            min(first + chunk, classes),
            (ordered[low:high] - first, order[low:high]) if high > low else None,
        )
        for first, low, high in zip(firsts, edges[:-1], edges[1:], strict=True)
    ]
