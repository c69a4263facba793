"""What the row optimisers share: which rows move, in chunks that stay in cache, and who is told.

A subclass says what one chunk does (`_move`); this module brings it the rows and takes them back. Nothing of the size
of the parameter is allocated but the state itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Protocol, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from qmargin.divergence.inputs import is_number
from qmargin.optim._chunks import dense_chunks, gathered_chunks, scattered_chunks, touched_rows

Update = Literal["dense", "lazy"]


class RowListener(Protocol):
    """Follows the rows of one parameter, to keep what depends on them in step (norms, a low-precision copy).

    A step that moves rows calls `begin`, then `moved` once for each chunk, then `end`; a step that moves none calls
    nothing. A step that fails on the way never reaches `end`: what depends on the rows is then out of date.
    """

    def begin(self) -> None:
        """Before the first row of a step moves."""

    def moved(self, index: slice | Tensor, rows: Tensor) -> None:
        """After a chunk has moved, while it is warm in cache.

        Args:
            index: where the chunk lies in the parameter: a slice, or (chunk,) int64 rows, ascending and distinct.
            rows: (chunk, dim), the new values; valid during this call only, not to be written to.
        """

    def end(self) -> None:
        """After the last row of a step has moved."""


class RowOptimizer(Optimizer, ABC):
    """Base of the optimisers of prototypes (rows, dim); see `RowSGD` and `RowAdamW`.

    Args:
        params: parameters (rows, dim) or param groups of them; float32 or float64, contiguous.
        defaults: settings of the groups, among them `lr`, `weight_decay` and `update`.
        listener: told of every chunk that moved; needs an optimiser of exactly one parameter.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any], listener: RowListener | None) -> None:
        self._listener = listener
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy (pickle, deepcopy) moves other parameters than the original: the listener stays with the original."""
        super().__setstate__(state)
        self.__dict__.setdefault("_listener", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters (rows, dim); settings it does not name are those of the optimiser."""
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check_group(self, group: dict[str, Any]) -> None:
        """Refuse settings and parameters by name; subclasses add their own settings."""
        for name in ("lr", "weight_decay"):
            check_setting(name, group[name])
        if group["update"] not in ("dense", "lazy"):
            raise ValueError(
                f"update must be 'dense' (every row) or 'lazy' (rows of the gradient), got {group['update']!r}"
            )
        for param in group["params"]:
            if param.ndim != 2 or param.dtype not in (torch.float32, torch.float64) or not param.is_contiguous():
                raise ValueError(
                    f"{type(self).__name__} moves contiguous float32 or float64 parameters (rows, dim), got "
                    f"{tuple(param.shape)} {param.dtype}; give the other parameters to an optimiser of torch.optim"
                )
        count = sum(len(group["params"]) for group in self.param_groups)
        if self._listener is not None and count != 1:
            raise ValueError(f"a listener follows the rows of one parameter, got {count}; make an optimiser for each")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the rows of every parameter that has a gradient.

        Args:
            closure: optional, evaluates the loss anew and returns it.

        Raises:
            ValueError: a sparse gradient with more than one sparse dimension.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._step_rows(param, group)
        return loss

    def _step_rows(self, param: Tensor, group: dict[str, Any]) -> None:
        grad = param.grad
        assert grad is not None
        index, values = touched_rows(grad)
        everywhere = index is None or self._moves_untouched(group)
        if len(param if everywhere else values) == 0:
            return
        tensors = [param, *self._states(param, group)]
        if index is None:
            chunks = dense_chunks(tensors, values)
        elif everywhere:
            chunks = scattered_chunks(tensors, index, values)
        else:
            chunks = gathered_chunks(tensors, index, values)
        if self._listener is not None:
            self._listener.begin()
        for where, (rows, *states), grads in chunks:
            self._move(rows, grads, states, group)
            if self._listener is not None:
                self._listener.moved(where, rows)
        if self._listener is not None:
            self._listener.end()

    def _states(self, param: Tensor, group: dict[str, Any]) -> list[Tensor]:
        """State of a parameter, made where it is missing: zeros, as if no gradient had ever arrived."""
        state = self.state[param]
        shapes = self._state_shapes(param, group)
        for name, shape in shapes.items():
            if name not in state:
                state[name] = torch.zeros(shape, dtype=param.dtype, device=param.device)
        return [state[name] for name in shapes]

    @abstractmethod
    def _moves_untouched(self, group: dict[str, Any]) -> bool:
        """Whether rows outside the gradient move under these settings."""

    @abstractmethod
    def _state_shapes(self, param: Tensor, group: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """Names and shapes (rows, ...) of the state of a parameter; it starts at zero."""

    @abstractmethod
    def _move(self, rows: Tensor, grads: Tensor, states: list[Tensor], group: dict[str, Any]) -> None:
        """Move a chunk in place: rows, grads (chunk, dim); states (chunk, ...) in the order of their names."""


def check_setting(name: str, value: object, below: float = float("inf")) -> None:
    """A number in [0, below)."""
    if not (is_number(value) and 0.0 <= value < below):
        raise ValueError(f"{name} must be a number in [0, {below:g}), got {value!r}")
