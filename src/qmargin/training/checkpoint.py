"""Checkpoints: one safetensors file that holds everything, written atomically, read without running any code.

A state is a tree of dicts and lists whose leaves are tensors or JSON scalars. Tensors go into the file's body by their
path in the tree; the tree itself, with a placeholder for each tensor, goes into its header as JSON.

Both ways tensors pass through a buffer of 16 MiB: a checkpoint needs no memory beside the model, whatever its size.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from qmargin._files import replacing
from qmargin.training.tensorfile import Joined, Stored, TensorFileError, map_file, write_tensors

State = dict[str, Any]
Leaf = TypeVar("Leaf")
_TENSOR = "__tensor__"
_TREE = "qmargin_state"


def write_checkpoint(tree: str, tensors: Mapping[str, Tensor | Stored | Joined], path: Path) -> None:
    """Write a state that is already taken apart: its tree as JSON, and its tensors by their paths.

    Raises:
        ValueError: as `save_checkpoint`.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        write_tensors(file, tensors, {_TREE: tree})


def save_checkpoint(state: State, path: Path) -> None:
    """Write `state` to `path`; a crash at any moment leaves the old file or the new one, whole.

    Raises:
        ValueError: the folder is read-only, missing or full; the checkpoint that was there before is untouched.
    """
    write_checkpoint(*take_apart(state), path)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[State]:
    """Yield the state that `save_checkpoint` wrote, its tensors still in the file: each leaf is a `Stored`.

    `leaf.read()` is the tensor, `leaf.copy_to(tensor)` fills one that is there, both in chunks. The whole file's table
    of contents is checked before anything is yielded.

    Raises:
        ValueError: the file is missing, truncated, or not a qmargin checkpoint; on reading, also that the disk fails.
    """
    with opened(path) as (tree, tensors):
        yield put_together(tree, tensors)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> State:
    """Read a whole state that `save_checkpoint` wrote, into new tensors.

    Raises:
        ValueError: the file is missing, truncated, or not a qmargin checkpoint.

    Sibling: `open_checkpoint`, which leaves the tensors in the file until they are asked for.
    """
    with open_checkpoint(path) as state:
        whole: State = _read(state, device)
    return whole


def take_apart(state: State) -> tuple[str, dict[str, Tensor]]:
    """The tree of a state as JSON, and its tensors by their paths in the tree: "head/weight"."""
    tensors: dict[str, Tensor] = {}
    return json.dumps(_pack(state, "", tensors)), tensors


def put_together(tree: str, tensors: Mapping[str, Leaf]) -> State:
    """The state whose tree `take_apart` has made, with these leaves.

    Raises:
        TensorFileError: a leaf of the tree is missing.
    """
    state: State = _unpack(json.loads(tree), tensors)
    return state


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, dict[str, Stored]]]:
    """The tree and the tensors of a checkpoint's file; errors as those of `open_checkpoint`."""
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: train first, or check the run's folder")
    with naming_the_file(path), path.open("rb") as file:
        header, tensors = map_file(file)
        if _TREE not in header:
            raise ValueError(f"{path} is a safetensors file but no qmargin checkpoint (no {_TREE} in its header)")
        yield header[_TREE], tensors


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Turn what the format and the disk refuse into a ValueError that names the file."""
    try:
        yield
    except (TensorFileError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or truncated ({error}); put back a copy of it, or remove it and train again"
        ) from error


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - a node of a tree
    if isinstance(node, Tensor):
        tensors[path] = node.detach()
        return {_TENSOR: path}
    if isinstance(node, dict):
        assert all(isinstance(key, str) for key in node), f"keys of a state are text: {list(node)}"
        return {key: _pack(value, f"{path}/{key}" if path else key, tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}/{index}", tensors) for index, value in enumerate(node)]
    assert node is None or isinstance(node, bool | int | float | str), f"{path}: {type(node)} is not JSON"
    return node


def _unpack(node: Any, tensors: Mapping[str, Leaf]) -> Any:  # noqa: ANN401
    if isinstance(node, dict):
        if set(node) == {_TENSOR}:
            if node[_TENSOR] not in tensors:
                raise TensorFileError(f"the tensor {node[_TENSOR]} is not in it")
            return tensors[node[_TENSOR]]
        return {key: _unpack(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, tensors) for value in node]
    return node


def _read(node: Any, device: torch.device | str) -> Any:  # noqa: ANN401
    if isinstance(node, Stored):
        return node.read(device)
    if isinstance(node, dict):
        return {key: _read(value, device) for key, value in node.items()}
    if isinstance(node, list):
        return [_read(value, device) for value in node]
    return node
