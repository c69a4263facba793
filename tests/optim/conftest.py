"""Sparse gradients as a head makes them, a stream of them, and chunks of three rows, so that small tests have many."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

CLASSES, DIM = 17, 3

Sparse = Callable[..., Tensor]
Stream = Callable[[int], Iterator[Tensor]]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmargin.optim._chunks.CACHE_BYTES", 3 * DIM * 8)


@pytest.fixture
def sparse() -> Sparse:
    """Hybrid COO gradient (classes, dim) from rows and their values, as they come: unsorted, duplicated."""

    def build(rows: list[int] | Tensor, values: Tensor, classes: int = CLASSES) -> Tensor:
        index = torch.as_tensor(rows, dtype=torch.int64)[None]
        return torch.sparse_coo_tensor(index, values, (classes, values.shape[1]), check_invariants=True)

    return build


@pytest.fixture
def stream(sparse: Sparse) -> Stream:
    """Gradients in float64 of 0 to 8 drawn rows, with duplicates, from a seed of its own."""

    def draw(count: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1)
        for step in range(count):
            rows = torch.randint(CLASSES, (step % 9,), generator=generator)
            yield sparse(rows, torch.randn(len(rows), DIM, generator=generator, dtype=torch.float64))

    return draw


@pytest.fixture
def start() -> Tensor:
    """Prototypes (classes, dim) in float64."""
    return torch.randn(CLASSES, DIM, dtype=torch.float64)
