"""What a head is measured on: shared prototypes, and batches as at the start and towards the end of a training.

Both states use the same prototypes, rows drawn from normal(0, 0.01): directions without any order.

    untrained   embeddings are random directions: every cosine is noise of standard deviation 1/sqrt(dim)
    trained     e = 0.6 u_y + 0.40 u_a + 0.35 u_b + 0.30 u_c + 0.25 u_d + 0.20 u_f + 0.41 noise

where u are directions of prototypes, y the own class and a to f five other classes, drawn anew for each row: hard
negatives. The noise is a random direction, and its factor makes the squares of all factors sum to 1. Directions of
prototypes are nearly orthogonal, so each factor is a cosine, up to 1/sqrt(dim).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin.heads.contract import PROTOTYPE_STD

TARGET_COSINE = 0.6
HARD_COSINES = (0.40, 0.35, 0.30, 0.25, 0.20)
STATES = ("untrained", "trained")
BATCHES = 4  # taken in turn: one batch alone would keep the rows it touches in the cache


class Sizes(NamedTuple):
    """Of one measurement."""

    classes: int
    dim: int
    batch: int


class Batch(NamedTuple):
    """What a step is given."""

    embeddings: Tensor  # (batch, dim) float32, a leaf that wants its gradient, as a backbone's output does
    labels: Tensor  # (batch,) int64


@dataclass(frozen=True)
class Scene:
    """Prototypes that all sides move in turn, and batches for each state."""

    sizes: Sizes
    weight: Tensor  # (classes, dim) float32
    batches: dict[str, list[Batch]]


def make_scene(sizes: Sizes, seed: int = 0) -> Scene:
    """Draw prototypes and batches from a generator of their own.

    Args:
        sizes: at least two classes.
        seed: of the generator.

    Example:
        >>> scene = make_scene(Sizes(classes=100, dim=64, batch=8))
        >>> scene.weight.shape, len(scene.batches["trained"])
        (torch.Size([100, 64]), 4)
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(sizes.classes, sizes.dim).normal_(std=PROTOTYPE_STD, generator=generator)
    batches = {state: [_draw(state, weight, sizes.batch, generator) for _ in range(BATCHES)] for state in STATES}
    return Scene(sizes, weight, batches)


def _draw(state: str, weight: Tensor, batch: int, generator: torch.Generator) -> Batch:
    classes, dim = weight.shape
    labels = torch.randint(classes, (batch,), generator=generator)
    embeddings = F.normalize(torch.randn(batch, dim, generator=generator))  # (batch, dim)
    if state == "trained":
        cosines = (TARGET_COSINE, *HARD_COSINES)
        others = torch.randint(1, max(classes, 2), (len(HARD_COSINES), batch), generator=generator)
        embeddings = math.sqrt(1.0 - sum(cosine**2 for cosine in cosines)) * embeddings
        for cosine, index in zip(cosines, [labels, *((labels + others) % classes)], strict=True):
            embeddings = embeddings + cosine * F.normalize(weight[index])
    return Batch(embeddings.requires_grad_(), labels)
