"""Chunks of rows that stay in cache: slices of every row, or gathered copies of the rows of a gradient.

Each iterator yields `(where, tensors, grads)`: the place of the chunk, the chunk of every tensor and its gradient.
Whoever moves the tensors of a chunk in place has moved the rows: gathered ones are written back.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

CACHE_BYTES = 1 << 21  # rows of one chunk on a CPU: small enough for the shared cache, large enough to hide each call
LAUNCH_BYTES = 1 << 26  # elsewhere: enough work for one kernel launch

Chunk = tuple[slice | Tensor, list[Tensor], Tensor]


def chunk_rows(param: Tensor) -> int:
    """Rows in a chunk of a parameter (rows, dim)."""
    size = CACHE_BYTES if param.device.type == "cpu" else LAUNCH_BYTES
    return max(1, size // (param.shape[1] * param.element_size()))


def touched_rows(grad: Tensor) -> tuple[Tensor | None, Tensor]:
    """Rows of a gradient (touched,), ascending and distinct, and their values (touched, dim); None where it has all."""
    if not grad.is_sparse:
        return None, grad
    if grad.sparse_dim() != 1:
        raise ValueError(
            f"a sparse gradient of prototypes has one sparse dimension (whole rows), got {grad.sparse_dim()}; "
            "build it as torch.sparse_coo_tensor(rows[None], values, shape)"
        )
    grad = coalesced(grad)
    values = grad.values()
    return (None if len(values) == len(grad) else grad.indices()[0]), values


def coalesced(grad: Tensor) -> Tensor:
    """The sparse gradient with distinct, ascending rows: itself where it has them, without the copy of its values.

    Autograd forgets that a gradient was coalesced when it stores it in `.grad`.
    """
    if not grad.is_coalesced():
        rows = grad._indices()[0]  # noqa: SLF001 - what torch.amp.GradScaler reads, too
        if not bool((rows[1:] > rows[:-1]).all()):
            return grad.coalesce()
        grad._coalesced_(True)
    return grad


def dense_chunks(tensors: list[Tensor], grad: Tensor) -> Iterator[Chunk]:
    """Every row, from a dense gradient (rows, dim)."""
    for start, stop in pairwise(_bounds(len(grad), chunk_rows(tensors[0]))):
        yield slice(start, stop), [tensor[start:stop] for tensor in tensors], grad[start:stop].contiguous()


def scattered_chunks(tensors: list[Tensor], index: Tensor, values: Tensor) -> Iterator[Chunk]:
    """Every row, from the values (touched, dim) of the rows `index` (touched,); the gradient of the others is zero."""
    bounds = _bounds(len(tensors[0]), chunk_rows(tensors[0]))
    places = torch.searchsorted(index, torch.tensor(bounds, device=index.device)).tolist()
    scratch = values.new_zeros(bounds[1], values.shape[1])
    for (start, stop), (first, last) in zip(pairwise(bounds), pairwise(places), strict=True):
        local = index[first:last] - start
        scratch.index_copy_(0, local, values[first:last])
        yield slice(start, stop), [tensor[start:stop] for tensor in tensors], scratch[: stop - start]
        scratch.index_fill_(0, local, 0.0)


def gathered_chunks(tensors: list[Tensor], index: Tensor, values: Tensor) -> Iterator[Chunk]:
    """The rows `index` (touched,) alone, gathered and written back; their gradient is `values` (touched, dim)."""
    bounds = _bounds(len(index), chunk_rows(tensors[0]))
    scratch = [tensor.new_empty(bounds[1], *tensor.shape[1:]) for tensor in tensors]
    for start, stop in pairwise(bounds):
        where = index[start:stop]
        gathered = [part[: stop - start] for part in scratch]
        for tensor, part in zip(tensors, gathered, strict=True):
            torch.index_select(tensor, 0, where, out=part)
        yield where, gathered, values[start:stop].contiguous()
        for tensor, part in zip(tensors, gathered, strict=True):
            tensor.index_copy_(0, where, part)


def _bounds(rows: int, chunk: int) -> list[int]:
    """0, chunk, 2 chunk, ..., rows."""
    return [*range(0, rows, chunk), rows]
