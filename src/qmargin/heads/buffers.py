"""Memory of gradients that is used again: on the CPU a fresh large buffer can cost more than filling it.

The C library hands large buffers (above 32 MB with glibc) back to the kernel, which delivers the next ones page by
page, zeroed. On other devices torch's caching allocator does this work.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

SPARE = 8  # a new buffer has room for an eighth more than was asked for: supports breathe from step to step
_UNUSED = 2  # references to an array that nothing but its keeper holds, as sys.getrefcount counts


class GradientBuffer:
    """One buffer, lent again when no tensor uses it any more (CPython counts the references of its owner)."""

    def __init__(self) -> None:
        self._array: np.ndarray[Any, np.dtype[Any]] = np.empty(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> "GradientBuffer":
        """A copied head has its own."""
        return GradientBuffer()

    def __reduce__(self) -> tuple[type["GradientBuffer"], tuple[()]]:
        """A stored head has none."""
        return GradientBuffer, ()

    def take(self, like: Tensor, rows: int) -> Tensor:
        """Uninitialised (rows, dim) of the dtype and device of `like` (any, dim)."""
        dim = like.shape[1]
        if like.device.type != "cpu":
            return like.new_empty(rows, dim)
        dtype = np.dtype(str(like.dtype).removeprefix("torch."))
        if not self._is_free():
            return like.new_empty(rows, dim)  # the last gradient still lives: it is being accumulated, or was kept
        if self._array.dtype != dtype or self._array.size < rows * dim:
            self._array = np.empty(0, dtype)  # the old one goes before the new one comes
            self._array = np.empty(min(rows + rows // SPARE, max(rows, len(like))) * dim, dtype)
        return torch.from_numpy(self._array)[: rows * dim].view(rows, dim)

    def _is_free(self) -> bool:
        return sys.getrefcount(self._array) == _UNUSED
