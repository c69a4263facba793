"""Products of the prototypes, chunk by chunk, with the directions of a batch, in the arithmetic the device is good at.

A CPU without bfloat16 units multiplies bfloat16 matrices by a slow path, tens of times slower than float32. There a
chunk is widened to float32 in the cache and multiplied in float32: its values are the rounded ones all the same, so
what a certificate says of their rounding holds, and the sums are those of float32 accumulation.
"""

import platform
from functools import cache
from typing import Literal

import torch
from torch import Tensor

X86 = ("x86_64", "amd64")
Precision = Literal["auto", "bfloat16", "float16", "float32"]
COPIES: dict[str, torch.dtype | None] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": None,  # no copy: the prototypes themselves are streamed
}


def screening_precision(precision: Precision, device: torch.device) -> str:
    """The name in `COPIES` that a precision stands for: "auto" is bfloat16 where the device multiplies it.

    Example:
        >>> screening_precision("auto", torch.device("cuda")), screening_precision("float16", torch.device("cpu"))
        ('bfloat16', 'float16')
    """
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies(torch.bfloat16, device) else "float32"


def multiplies(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device has units that multiply matrices of this type.

    Example:
        >>> multiplies(torch.float32, torch.device("cpu"))
        True
    """
    return dtype not in (torch.bfloat16, torch.float16) or device.type != "cpu" or _cpu_multiplies(dtype)


@cache
def _cpu_multiplies(dtype: torch.dtype) -> bool:
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())  # noqa: SLF001 - there is no public question
    if platform.machine().lower() in X86:  # AVX-512 alone would emulate it, slower than float32
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


class ChunkProducts:
    """`source[first:last] @ directions^T`, chunk after chunk in one buffer.

    Args:
        source: (classes, dim) rows in any floating type.
        directions: (batch, dim); rounded to the type of `source`.
        longest: rows of the largest chunk.
        spare: rows that the buffer has beyond.
    """

    def __init__(self, source: Tensor, directions: Tensor, longest: int, spare: int = 0) -> None:
        self.source = source
        self._wide: Tensor | None = None
        rounded = directions.to(source.dtype)
        if not multiplies(source.dtype, source.device):
            rounded = rounded.float()
            self._wide = rounded.new_empty(longest, source.shape[1])
        self.directions = rounded.T.contiguous()  # (dim, batch)
        self.buffer = self.directions.new_empty(longest + spare, self.directions.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self.buffer.dtype

    def into_buffer(self, first: int, last: int) -> Tensor:
        """Products (last - first, batch) of the rows first to last - 1, a view of the buffer's beginning."""
        rows = self.source[first:last]
        if self._wide is not None:
            rows = self._wide[: last - first].copy_(rows)
        return torch.mm(rows, self.directions, out=self.buffer[: last - first])
