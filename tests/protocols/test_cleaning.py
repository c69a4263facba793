from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from qmargin.protocols import cleaning
from qmargin.protocols.cleaning import similar_pairs, suspects

CLASSES, DIM = 120, 8


def directions(rows: int, seed: int) -> Tensor:
    drawn = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn)


def pairs_by_hand(prototypes: Tensor, cosine: float, most: int) -> list[tuple[int, int]]:
    cosines = (prototypes @ prototypes.T).numpy()
    found = [pair for pair in combinations(range(len(prototypes)), 2) if cosines[pair] >= cosine]
    return sorted(found, key=lambda pair: (-cosines[pair], pair))[:most]


@pytest.mark.parametrize("side", [7, 50, 4096])
@pytest.mark.parametrize(("cosine", "most"), [(0.7, 10_000), (0.5, 40), (-1.0, 5), (0.9999, 10)])
def test_pairs_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, side: int, cosine: float, most: int
) -> None:
    monkeypatch.setattr(cleaning, "SIDE", side)
    prototypes = directions(CLASSES, 0)
    prototypes[33] = prototypes[5]
    prototypes[99] = -prototypes[6]
    found = similar_pairs(prototypes, cosine, most)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == pairs_by_hand(
        prototypes, cosine, most
    )
    exact = (prototypes[found.first] * prototypes[found.second]).sum(dim=1).numpy()
    np.testing.assert_allclose(found.cosine, exact, atol=1e-6)


def test_no_tile_is_larger_than_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "SIDE", 16)
    tiles = [tuple(cosines.shape) for _, _, cosines in cleaning._tiles(directions(40, 0))]
    assert tiles == [(16, 16), (16, 16), (16, 8), (16, 16), (16, 8), (8, 8)]


def gaps_by_hand(vectors: Tensor, labels: NDArray[np.int64], prototypes: Tensor) -> NDArray[np.float64]:
    cosines = (torch.nn.functional.normalize(vectors) @ prototypes.T).double().numpy()
    own = cosines[np.arange(len(labels)), labels]
    cosines[np.arange(len(labels)), labels] = -np.inf
    gaps: NDArray[np.float64] = cosines.max(axis=1) - own
    return gaps


@pytest.mark.parametrize("tile", [64, 1 << 24])
def test_suspects_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    """Every image is its prototype with noise, but for three whose labels were exchanged."""
    monkeypatch.setattr(cleaning, "TILE", tile)
    prototypes = directions(CLASSES, 0)
    labels = np.random.default_rng(0).integers(0, CLASSES, 90)
    vectors = 3.0 * (prototypes[labels] + 0.1 * directions(90, 1))
    wrong = labels.copy()
    wrong[[4, 50, 77]] = [(labels[place] + 17) % CLASSES for place in (4, 50, 77)]
    gaps = gaps_by_hand(vectors, wrong, prototypes)
    found = suspects(vectors.split(32), wrong, prototypes, gap=0.3, most=50)
    assert set(found.image.tolist()) == {4, 50, 77} == set(np.flatnonzero(gaps >= 0.3).tolist())
    assert found.other.tolist() == labels[found.image].tolist()
    np.testing.assert_allclose(found.gap, gaps[found.image], atol=1e-5)
    assert (np.diff(found.gap) <= 0).all()
    fewer = suspects(vectors.split(32), wrong, prototypes, gap=0.0, most=2)
    assert fewer.image.tolist() == found.image[:2].tolist()


def test_what_makes_no_sense_is_refused() -> None:
    prototypes = directions(4, 0)
    with pytest.raises(ValueError, match=r"cosine must be in \[-1, 1\], got 1.5"):
        similar_pairs(prototypes, 1.5, 3)
    with pytest.raises(ValueError, match=r"most must be at least 1, got 0"):
        similar_pairs(prototypes, 0.5, 0)
    with pytest.raises(ValueError, match=r"gap must be in \[0, 2\], got -0.1"):
        suspects([], np.zeros(0, np.int64), prototypes, -0.1, 3)
    for rows in (2, 4):
        with pytest.raises(ValueError, match=r"embeddings of . images or more, and labels of 3"):
            suspects([torch.ones(rows, DIM)], np.zeros(3, np.int64), prototypes, 0.1, 3)
