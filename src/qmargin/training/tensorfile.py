"""The safetensors format, tensor by tensor and chunk by chunk: https://github.com/huggingface/safetensors#format.

    8 bytes: length N of the header, little-endian; N bytes: the header, JSON, padded with spaces to a multiple of 8
    the tensors' bytes, row-major, without gaps: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}

The library of that name writes from, and reads into, whole tensors; the head of a million identities is too large to
exist twice.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain, pairwise
from math import prod
from typing import Any, BinaryIO

import torch
from torch import Tensor

CHUNK = 1 << 24  # bytes in memory beside the tensor
LONGEST_HEADER = 100_000_000  # bytes, as the format has it
METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorFileError(Exception):
    """The file is not what the format says; the text is the reason, to be completed by who knows the path."""


@dataclass(frozen=True)
class Stored:
    """A tensor that is still in its file, which must be open while it is read."""

    file: BufferedReader
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # first byte in the file

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, rows: range) -> "Stored":
        """Some consecutive rows of it, which lie together in the file."""
        assert self.shape
        assert 0 <= rows.start <= rows.stop <= self.shape[0]
        assert rows.step == 1
        row = prod(self.shape[1:]) * self.dtype.itemsize
        return Stored(self.file, self.dtype, (len(rows), *self.shape[1:]), self.start + rows.start * row)

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes, in order."""
        self.file.seek(self.start)
        left = self.nbytes
        while left > 0:
            chunk = self.file.read(min(CHUNK, left))
            if not chunk:
                raise TensorFileError("it became shorter while it was read")
            left -= len(chunk)
            yield memoryview(chunk)

    def read(self, device: torch.device | str = "cpu") -> Tensor:
        """It, as a new tensor."""
        tensor = torch.empty(self.shape, dtype=self.dtype, device=device)
        self.copy_to(tensor)
        return tensor

    @torch.no_grad()
    def copy_to(self, target: Tensor) -> None:
        """Overwrite a tensor of the same shape and dtype, on whatever device, in place, chunk by chunk."""
        assert (tuple(target.shape), target.dtype) == (self.shape, self.dtype), "the caller checks what fits"
        # no chunks of a tensor in another order than the file's: such are the small ones of a network
        flat = target.view(-1) if target.is_contiguous() else torch.empty_like(target).reshape(-1)
        self.file.seek(self.start)
        buffer = torch.empty(min(CHUNK, self.nbytes), dtype=torch.uint8)
        for part in flat.split(CHUNK // self.dtype.itemsize):
            chunk = buffer[: part.numel() * self.dtype.itemsize]
            if self.file.readinto(chunk.numpy().data) != len(chunk):
                raise TensorFileError("it became shorter while it was read; what was read into is now half overwritten")
            part.copy_(chunk.view(self.dtype))  # not read into directly: torch counts this as a change of the tensor
        if not target.is_contiguous():
            target.copy_(flat.view(target.shape))


@dataclass(frozen=True)
class Joined:
    """Stored tensors of equal rows, one after the other, as one."""

    parts: tuple[Stored, ...]

    @property
    def dtype(self) -> torch.dtype:
        """That of every part."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes, in order."""
        return chain.from_iterable(part.chunks() for part in self.parts)


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor | Stored | Joined], metadata: dict[str, str]) -> None:
    """Write a file at the beginning of `file`, tensors on whatever devices or in other files, in chunks."""
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))  # each at a multiple of its size
    table: dict[str, Any] = {METADATA: metadata}
    end = 0
    for name, tensor in ordered.items():
        assert tensor.dtype in NAMES, f"{name}: checkpoints do not hold {tensor.dtype}"
        start, end = end, end + prod(tensor.shape) * tensor.dtype.itemsize
        table[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)
    for tensor in ordered.values():
        file.writelines(_chunks(tensor) if isinstance(tensor, Tensor) else tensor.chunks())


def _chunks(tensor: Tensor) -> Iterator[memoryview]:
    for part in tensor.detach().reshape(-1).split(CHUNK // tensor.dtype.itemsize):
        yield part.cpu().view(torch.uint8).numpy().data


def map_file(file: BufferedReader) -> tuple[dict[str, str], dict[str, Stored]]:
    """The metadata of a file and where its tensors are; nothing of them is read.

    Raises:
        TensorFileError: the header is none, or the tensors it lists do not fill the file without gap and overlap.
    """
    size = file.seek(0, 2)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if length > min(LONGEST_HEADER, size - 8):
        raise TensorFileError(f"its header should have {length:,} bytes, the file has {size:,}")
    try:
        table = json.loads(file.read(length))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TensorFileError(f"its header is not JSON: {error}") from error
    if not isinstance(table, dict) or not isinstance(table.get(METADATA, {}), dict):
        raise TensorFileError("its header is not an object of tensors")
    metadata = table.pop(METADATA, {})
    spans: list[tuple[int, int]] = [(0, 0)]
    tensors: dict[str, Stored] = {}
    for name, entry in table.items():
        dtype, shape, (start, end) = _entry(name, entry)
        tensors[name] = Stored(file, dtype, shape, 8 + length + start)
        if end - start != tensors[name].nbytes:
            raise TensorFileError(f"{name} of shape {shape} takes {tensors[name].nbytes:,} bytes, has {end - start:,}")
        spans.append((start, end))
    _check_spans(sorted(spans), size - 8 - length)
    return metadata, tensors


def _entry(name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], tuple[int, int]]:  # noqa: ANN401 - from JSON
    try:
        dtype, shape, (start, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, start, end)
    except (KeyError, TypeError, ValueError) as error:
        raise TensorFileError(f"{name} is described as {entry!r}, not by a known dtype, a shape and offsets") from error
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise TensorFileError(f"{name} is described as {entry!r}: sizes and offsets are integers >= 0")
    return dtype, shape, (start, end)


def _check_spans(spans: list[tuple[int, int]], size: int) -> None:
    for (_, end), (start, _) in pairwise(spans):
        if start != end:
            raise TensorFileError(f"its tensors {'overlap' if start < end else 'leave a gap'} at byte {start:,}")
    if spans[-1][1] != size:
        raise TensorFileError(f"its tensors take {spans[-1][1]:,} bytes, it has {size:,} for them")
