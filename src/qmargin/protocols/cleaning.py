"""What a trained head says of its training labels: identities that look like one, images that look like another's.

Conventions:
    Cosines with prototypes, which are in memory once; no matrix of identities times identities is ever made, but tiles
    of at most `TILE` numbers. Time grows with the square of the identities (pairs) and with images times identities.
    A finding is a question to a person, not a verdict: siblings and look-alikes are found too.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE = 1 << 24  # cosines of a tile: 64 MiB in float32
SIDE = 4096  # prototypes along one side of a tile of pairs


class SimilarPairs(NamedTuple):
    """Pairs of identities whose prototypes are alike, the most alike first."""

    first: NDArray[np.int64]  # (pairs,) class, below `second`
    second: NDArray[np.int64]  # (pairs,)
    cosine: NDArray[np.float32]  # (pairs,)


class Suspects(NamedTuple):
    """Images that are nearer to another identity's prototype than to their own, the largest gap first."""

    image: NDArray[np.int64]  # (suspects,) place in the manifest
    own: NDArray[np.float32]  # (suspects,) cosine with the prototype of the image's label
    other: NDArray[np.int64]  # (suspects,) class of the nearest other prototype
    cosine: NDArray[np.float32]  # (suspects,) cosine with it

    @property
    def gap(self) -> NDArray[np.float32]:
        """How much nearer the other prototype is (suspects,)."""
        return self.cosine - self.own


def similar_pairs(prototypes: Tensor, cosine: float, most: int) -> SimilarPairs:
    """The pairs of prototypes with the highest cosines, exactly, from tiles.

        cos_ij = <u_i, u_j>, i < j:  those >= cosine, of these the `most` highest

    Once more than `most` pairs are known, only pairs above the least of the best are kept on.

    Args:
        prototypes: directions (classes, dim), float32, on any device.
        cosine: least cosine of a pair, in [-1, 1].
        most: pairs to return at most, >= 1.

    Returns:
        Pairs by falling cosine; equal ones by class.

    Raises:
        ValueError: a cosine or number outside its range.

    Example:
        >>> similar_pairs(torch.eye(3)[[0, 1, 0, 2]], cosine=0.5, most=10)
        SimilarPairs(first=array([0]), second=array([2]), cosine=array([1.], dtype=float32))
    """
    _check(cosine, "cosine", -1.0, 1.0)
    _check_most(most)
    kept: list[Tensor] = []  # (3, pairs) each: cosine, first, second; float64 holds every class
    known, least = 0, cosine
    for top, left, cosines in _tiles(prototypes):
        row, column = (cosines >= least).nonzero(as_tuple=True)
        if len(row) == 0:
            continue
        found = cosines[row, column].double()
        kept.append(torch.stack([found, (row + top).double(), (column + left).double()]).cpu())
        known += len(row)
        if known > 2 * most:
            kept = [_best(torch.cat(kept, dim=1), most)]
            known, least = most, max(least, float(kept[0][0].min()))
    best = _best(torch.cat(kept, dim=1), most) if kept else torch.empty(3, 0)
    values, first, second = best.numpy()
    return SimilarPairs(first.astype(np.int64), second.astype(np.int64), values.astype(np.float32))


def _tiles(prototypes: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """First row, first column and cosines of each tile on or above the diagonal; -inf where not i < j."""
    for top in range(0, len(prototypes), SIDE):
        rows = prototypes[top : top + SIDE]
        for left in range(top, len(prototypes), SIDE):
            cosines = rows @ prototypes[left : left + SIDE].T  # (rows, columns)
            if left == top:
                cosines.masked_fill_(torch.ones_like(cosines, dtype=torch.bool).tril(), -torch.inf)
            yield top, left, cosines


def _best(pairs: Tensor, most: int) -> Tensor:
    """The `most` pairs of highest cosine of (3, pairs); of equal ones those of the lowest classes."""
    cosine, first, second = pairs.numpy()
    order = np.lexsort((second, first, -cosine))[:most]
    return pairs[:, torch.from_numpy(order)]


def suspects(
    vectors: Iterable[Tensor], labels: NDArray[np.int64], prototypes: Tensor, gap: float, most: int
) -> Suspects:
    """The images that are nearer to another prototype than to their own by a gap or more.

        gap_i = max_{j != y_i} <e_i, u_j> / |e_i|  -  <e_i, u_{y_i}> / |e_i|

    Args:
        vectors: embeddings (batch, dim) of the images in their order, batch after batch, on the prototypes' device.
        labels: class of each image (images,).
        prototypes: directions (classes, dim), at least two.
        gap: least gap, > 0: 0 is where the margin-free prediction changes.
        most: images to return at most, >= 1.

    Returns:
        Images by falling gap; equal ones in their order.

    Raises:
        ValueError: a gap or number outside its range, or another number of images than labels.

    Example:
        >>> found = suspects([torch.tensor([[1.0, 0.1], [0.1, 1.0]])], np.array([0, 0]), torch.eye(2), gap=0.1, most=5)
        >>> found.image, found.other, found.gap.round(2)
        (array([1]), array([1]), array([0.9], dtype=float32))
    """
    _check(gap, "gap", 0.0, 2.0)
    _check_most(most)
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]] = []
    done = 0
    for batch in vectors:
        own_labels = torch.from_numpy(labels[done : done + len(batch)]).to(batch.device)
        done += len(batch)
        if len(own_labels) < len(batch):
            break
        parts.append(_nearest_other(torch.nn.functional.normalize(batch), own_labels, prototypes))
    if done != len(labels):
        raise ValueError(f"there are embeddings of {done:,} images or more, and labels of {len(labels):,}")
    own, other, cosine = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(own - cosine, kind="stable")[:most]  # falling gap
    order = order[(cosine - own)[order] >= gap]
    return Suspects(order.astype(np.int64), own[order], other[order], cosine[order])


def _nearest_other(
    directions: Tensor, labels: Tensor, prototypes: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Cosine with the own prototype, class of the nearest other one, and cosine with it; each (batch,)."""
    own = (directions * prototypes[labels]).sum(dim=1)  # (batch,)
    best = torch.full_like(own, -torch.inf)
    other = torch.zeros_like(labels)
    width = max(1, TILE // len(directions))
    for left in range(0, len(prototypes), width):
        cosines = directions @ prototypes[left : left + width].T  # (batch, width)
        inside = (labels >= left) & (labels < left + width)
        cosines[inside, labels[inside] - left] = -torch.inf
        value, place = cosines.max(dim=1)
        other = torch.where(value > best, place + left, other)
        best = torch.maximum(best, value)
    return own.float().cpu().numpy(), other.cpu().numpy(), best.float().cpu().numpy()


def _check(value: float, name: str, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value!r}")


def _check_most(most: int) -> None:
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
