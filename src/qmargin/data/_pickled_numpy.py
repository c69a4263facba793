"""What a pickle may name, and what each name stands for here: parts of numpy arrays, as functions of our own.

Names are text; no attribute of numpy is looked up by them. Shapes are checked against the bytes that are there, so an
array never allocates: it is a view of the file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Arguments = tuple[object, ...]
Payload = memoryview | bytes

_PLAIN = re.compile(r"[|<>=]?(b1|[iu][1248])")  # booleans and integers: no objects, no text, no records
_ORDERS: dict[str, Literal["|", "<", ">", "="]] = {"|": "|", "<": "<", ">": ">", "=": "="}
MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class Name:
    """A name on the stack, known to be in `CALLS`."""

    full: str


class State:
    """Something whose state a pickle may set."""

    def set(self, state: object) -> None:
        """Take the state; a ValueError says what is wrong with it."""
        raise NotImplementedError


class PickledDtype(State):
    """A dtype; a pickle makes it first and sets its byte order afterwards."""

    def __init__(self, code: str) -> None:
        if not _PLAIN.fullmatch(code):
            raise ValueError(f"it holds numpy data of type {code[:40]!r}; only booleans and integers belong here")
        self.value = np.dtype(code)

    def set(self, state: object) -> None:
        """(version, byte order, None, None, None, -1, -1, 0): only the order matters to plain numbers."""
        order = _text(state[1]) if isinstance(state, tuple) and len(state) >= 2 else None
        if order not in _ORDERS:
            raise ValueError(f"a numpy dtype in it has the byte order {str(order)[:20]!r}")
        self.value = self.value.newbyteorder(_ORDERS[order])


class PickledArray(State):
    """An array; a pickle makes it empty and sets its content afterwards."""

    def __init__(self, values: NDArray[Any] | None = None) -> None:
        self.values = np.empty(0, np.uint8) if values is None else values

    def set(self, state: object) -> None:
        """(version, shape, dtype, is Fortran, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("the state of a numpy array in it is not (version, shape, dtype, order, bytes)")
        _, shape, dtype, fortran, payload = state
        self.values = _view(payload, dtype, shape, "F" if fortran else "C")


def _view(payload: object, dtype: object, shape: object, order: str) -> NDArray[Any]:
    if not isinstance(payload, Payload) or not isinstance(dtype, PickledDtype) or not isinstance(shape, tuple):
        raise ValueError("a numpy array in it is not made of bytes, a dtype and a shape")
    sizes = [size for size in shape if isinstance(size, int) and size >= 0]
    if len(sizes) != len(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a numpy array in it has {len(shape)} dimensions, or one that is no size")
    wanted = prod(sizes) * dtype.value.itemsize
    if wanted != len(payload):
        raise ValueError(f"a numpy array in it has {len(payload):,} bytes, its shape needs {wanted:,}")
    if not wanted:
        raise ValueError("a numpy array in it is empty")
    return np.frombuffer(payload, dtype.value).reshape(sizes, order="F" if order == "F" else "C")


def _text(value: object) -> str | None:
    """Text, also where Python 2 wrote it as bytes."""
    if isinstance(value, Payload):
        return str(value, "latin-1")
    return value if isinstance(value, str) else None


def _dtype(arguments: Arguments) -> PickledDtype:
    code = _text(arguments[0]) if arguments else None
    if code is None:
        raise ValueError("a numpy dtype in it has no code")
    return PickledDtype(code)


def _reconstruct(arguments: Arguments) -> PickledArray:
    if not arguments or arguments[0] != Name("numpy.ndarray"):
        raise ValueError("it makes a numpy object that is no plain array")
    return PickledArray()


def _from_buffer(arguments: Arguments) -> PickledArray:
    if len(arguments) != 4:
        raise ValueError("a numpy array in it is not (bytes, dtype, shape, order)")
    payload, dtype, shape, order = arguments
    return PickledArray(_view(payload, dtype, shape, _text(order) or "C"))


def _scalar(arguments: Arguments) -> object:
    if len(arguments) != 2:
        raise ValueError("a numpy scalar in it is not (dtype, bytes)")
    return _view(arguments[1], arguments[0], (1,), "C")[0].item()


def _encode(arguments: Arguments) -> bytes:
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes in protocols 0 to 2."""
    text, encoding = arguments if len(arguments) == 2 else (None, None)
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError("it encodes text in another way than latin1")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(f"bytes in it are not bytes ({error.reason})") from error


def _never(arguments: Arguments) -> object:
    raise ValueError(f"it calls numpy.ndarray itself with {len(arguments)} arguments; nothing was run")


CALLS: dict[str, Callable[[Arguments], object]] = {
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _never,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}
