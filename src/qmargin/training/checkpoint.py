"""Checkpoints: one safetensors file that holds everything, written atomically, read without running any code.

A state is a tree of dicts and lists whose leaves are tensors or JSON scalars. Tensors go into the file's body by their
path in the tree; the tree itself, with a placeholder for each tensor, goes into its header as JSON.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qmargin._files import replacing

State = dict[str, Any]
_TENSOR = "__tensor__"
_TREE = "qmargin_state"


def save_checkpoint(state: State, path: Path) -> None:
    """Write `state` to `path`; a crash at any moment leaves the old file or the new one, whole.

    Raises:
        ValueError: the folder is read-only, missing or full; the checkpoint that was there before is untouched.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(state, "", tensors))
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_TREE: tree})
        except SafetensorError as error:  # what the library makes of a full disk
            raise OSError(f"{error} (is the disk full?)") from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> State:
    """Read a state that `save_checkpoint` wrote.

    Raises:
        ValueError: the file is missing, truncated, or not a qmargin checkpoint.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: train first, or check the run's folder")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            if _TREE not in header:
                raise ValueError(f"{path} is a safetensors file but no qmargin checkpoint (no {_TREE} in its header)")
            state: State = _unpack(json.loads(header[_TREE]), file.get_tensor)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or truncated ({error}); put back a copy of it, or remove it and train again"
        ) from error
    return state


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - a node of a tree
    if isinstance(node, Tensor):
        tensors[path] = node.detach().contiguous()
        return {_TENSOR: path}
    if isinstance(node, dict):
        assert all(isinstance(key, str) for key in node), f"keys of a state are text: {list(node)}"
        return {key: _pack(value, f"{path}/{key}" if path else key, tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}/{index}", tensors) for index, value in enumerate(node)]
    assert node is None or isinstance(node, bool | int | float | str), f"{path}: {type(node)} is not JSON"
    return node


def _unpack(node: Any, get_tensor: Any) -> Any:  # noqa: ANN401
    if isinstance(node, dict):
        if set(node) == {_TENSOR}:
            return get_tensor(node[_TENSOR])
        return {key: _unpack(value, get_tensor) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, get_tensor) for value in node]
    return node
