import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from qmargin.training import tensorfile
from qmargin.training.tensorfile import DTYPES, TensorFileError, map_file, write_tensors


def tensors() -> dict[str, Tensor]:
    return {
        **{f"of {name}": torch.randint(0, 2, (3, 5)).to(dtype) for name, dtype in DTYPES.items()},
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "transposed": torch.randn(4, 6).T,
    }


def raw(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: str, shape: list[Any], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize("chunk", [8, 24, 1 << 24])
def test_what_is_written_is_read_by_safetensors_and_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(tensorfile, "CHUNK", chunk)
    path, written = tmp_path / "t.safetensors", tensors()
    with path.open("wb") as file:
        write_tensors(file, written, {"note": "näh"})
    with safe_open(path, framework="pt") as theirs:
        assert theirs.metadata() == {"note": "näh"}
    torch.testing.assert_close(load_file(path), written, rtol=0, atol=0)
    with path.open("rb") as file:
        metadata, stored = map_file(file)
        torch.testing.assert_close({name: item.read() for name, item in stored.items()}, written, rtol=0, atol=0)
        assert all(item.start % item.dtype.itemsize == 0 for item in stored.values())
    assert metadata == {"note": "näh"}


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    written = {name: tensor.contiguous() for name, tensor in tensors().items()}
    save_file(written, tmp_path / "t.safetensors")
    with (tmp_path / "t.safetensors").open("rb") as file:
        _, stored = map_file(file)
        torch.testing.assert_close({name: item.read() for name, item in stored.items()}, written, rtol=0, atol=0)


def test_reading_in_place_counts_as_a_change_and_keeps_the_order_of_memory(tmp_path: Path) -> None:
    """What is derived from a weight, such as the copy of the streaming head, notices it by torch's counter."""
    path, wanted = tmp_path / "t.safetensors", torch.randn(4, 6)
    with path.open("wb") as file:
        write_tensors(file, {"a": wanted}, {})
    for target in (torch.nn.Parameter(torch.zeros(4, 6)), torch.zeros(6, 4).T):
        version, strides = target._version, target.stride()
        with path.open("rb") as file:
            map_file(file)[1]["a"].copy_to(target)
        assert torch.equal(target, wanted)
        assert target._version > version
        assert target.stride() == strides


BAD: list[tuple[Any, bytes, str]] = [
    ([1], b"", r"its header is not an object of tensors"),
    ({"a": entry("F32", [2], 0, 4)}, b"\0" * 4, r"a of shape \(2,\) takes 8 bytes, has 4"),
    ({"a": entry("F32", [2], 0, 8)}, b"\0" * 6, r"its tensors take 8 bytes, it has 6 for them"),
    ({"a": entry("F32", [2], 0, 8)}, b"\0" * 9, r"its tensors take 8 bytes, it has 9 for them"),
    ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, b"\0" * 6, r"its tensors overlap at byte 2"),
    ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 6, 10)}, b"\0" * 10, r"its tensors leave a gap at byte 6"),
    ({"a": entry("F4", [2], 0, 8)}, b"\0" * 8, r"a is described as .*'F4'.*, not by a known dtype"),
    ({"a": {"dtype": "U8"}}, b"", r"a is described as .*, not by a known dtype, a shape and offsets"),
    ({"a": 3}, b"", r"a is described as 3"),
    ({"a": entry("U8", [-1], 0, 1)}, b"\0", r"sizes and offsets are integers >= 0"),
    ({"a": entry("U8", [1.0], 0, 1)}, b"\0", r"sizes and offsets are integers >= 0"),
    ({"a": entry("U8", [1], 5, 4)}, b"\0" * 4, r"a of shape \(1,\) takes 1 bytes, has -1"),
]


@pytest.mark.parametrize(("header", "body", "reason"), BAD)
def test_a_bad_table_of_contents_is_refused_before_anything_is_read(
    tmp_path: Path, header: Any, body: bytes, reason: str
) -> None:
    (tmp_path / "t").write_bytes(raw(header, body))
    with (tmp_path / "t").open("rb") as file, pytest.raises(TensorFileError, match=reason):
        map_file(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"its header should have .* bytes, the file has 0"),
        (b"\1\0\0", r"the file has 3"),
        (struct.pack("<Q", 1 << 40) + b"{}", r"its header should have 1,099,511,627,776 bytes, the file has 10"),
        (struct.pack("<Q", 2) + b"{!", r"its header is not JSON"),
        (struct.pack("<Q", 2) + b"\xff\xfe", r"its header is not JSON"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "t").write_bytes(content)
    with (tmp_path / "t").open("rb") as file, pytest.raises(TensorFileError, match=reason):
        map_file(file)
