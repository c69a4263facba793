"""The shadow of the prototypes: their directions in low precision, with what a certificate needs to know of them.

A shadow follows ONE weight. It notices every change torch can see (in-place edits, load_state_dict, `.to()`, another
parameter, a swapped `.data`) by the weight's identity, storage and version counter, and is then made anew. An optimizer
that tells a `ShadowListener` which rows moved keeps it in step for the price of those rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from qmargin.divergence.inputs import check_rows, to_compute_dtype

ROWS = 2048  # made anew so many at a time: the float32 directions of a chunk stay in the cache
ROUNDING = 1e-6  # of a float32 direction and its inverse norm, far above what they lose


class Shadow:
    """Directions of the prototypes in `dtype`, or only their inverse norms (`dtype` None: float32 screening).

    With u_j = w_j / |w_j| and u'_j its rounding, `residual` is |u_j - u'_j|: what screening with u' can be wrong by.
    """

    rows: Tensor | None  # (classes, dim) low precision directions; None without a copy
    inverse_norm: Tensor  # (classes,) 1 / |w_j|
    residual: Tensor  # (classes,)

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype
        self.forget()

    def forget(self) -> None:
        """Make everything anew at the next `follow`."""
        self._source: Tensor | None = None
        self._key: tuple[StorageWeakRef, int, int] | None = None
        self.rows = None
        self._unchecked = False  # rows were written since the prototypes were last found finite

    def keep_in(self, dtype: torch.dtype | None) -> None:
        """Keep directions in this type from now on; a copy in another one is forgotten."""
        if dtype != self.dtype:
            self.dtype = dtype
            self.forget()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shadow":
        """The copy of a head has another weight: its shadow starts empty."""
        return type(self)(self.dtype)

    def __reduce__(self) -> tuple[type["Shadow"], tuple[torch.dtype | None]]:
        """Nor is it pickled: it is half the size of the weight and made in a moment."""
        return type(self), (self.dtype,)

    def is_fresh(self, weight: Tensor, *, low: bool = True) -> bool:
        """Whether it is the shadow of `weight` as it is now; `low` asks for the low-precision rows too."""
        known = self._source is weight and self._key == _key(weight)
        return known and (self.rows is not None or self.dtype is None or not low)

    @torch.inference_mode(mode=False)  # made during an evaluation, it is still written to by the next training step
    @torch.no_grad()
    def follow(self, weight: Tensor, *, low: bool = True) -> None:
        """Become the shadow of `weight` (classes, dim), if it is not.

        Raises:
            ValueError: a prototype is zero or not finite.
        """
        if self.is_fresh(weight, low=low):
            if self._unchecked:
                self._check()
            return
        self.forget()
        classes = len(weight)
        self.inverse_norm = torch.empty(classes, dtype=to_compute_dtype(weight[:0]).dtype, device=weight.device)
        self.residual = torch.zeros_like(self.inverse_norm)
        if low and self.dtype is not None:
            self.rows = torch.empty_like(weight, dtype=self.dtype)
        for low_end in range(0, classes, ROWS):
            chunk = slice(low_end, min(low_end + ROWS, classes))
            self.write(chunk, weight[chunk])
        self._check()
        self.renew(weight)

    def listener(self, weight: Tensor) -> "ShadowListener":
        """For the optimizer of `weight`."""
        return ShadowListener(self, weight)

    def renew(self, weight: Tensor) -> None:
        """What was written is all that changed: it is the shadow of `weight` as it is now."""
        self._source, self._key = weight, _key(weight)

    def worst_residual(self) -> Tensor:
        """The largest residual of all prototypes (0-dimensional); NaN where one is zero or not finite."""
        return self.residual.amax()

    def _check(self) -> None:
        check_rows(
            self.inverse_norm.isfinite() & (self.inverse_norm > 0.0),
            "a prototype (row of head.weight) must be finite and not zero; was it loaded?",
        )
        self._unchecked = False

    def write(self, index: slice | Tensor, rows: Tensor) -> None:
        """Rows `index` of the weight are `rows` (rows, dim)."""
        self._unchecked = True
        rows = to_compute_dtype(rows)
        norm = torch.linalg.vector_norm(rows, dim=1)
        self.inverse_norm[index] = norm.reciprocal()
        if self.rows is None:
            self.residual[index] = norm - norm  # 0, and NaN for a prototype that is not finite
            return
        unit = rows / norm.unsqueeze(1)
        rounded = unit.to(self.rows.dtype)
        self.rows[index] = rounded
        self.residual[index] = torch.linalg.vector_norm(unit.sub_(rounded), dim=1)


class ShadowListener:
    """Keeps a shadow in step with a weight that an optimizer moves (`qmargin.optim.RowListener`)."""

    def __init__(self, shadow: Shadow, weight: Tensor) -> None:
        self.shadow, self.weight = shadow, weight
        self._following = False

    def begin(self) -> None:
        """Rows are about to move; a shadow that is not fresh now is made anew later."""
        self._following = self.shadow.is_fresh(self.weight, low=False)

    @torch.no_grad()
    def moved(self, index: slice | Tensor, rows: Tensor) -> None:
        """Rows `index` now hold `rows` (rows, dim)."""
        if self._following:
            self.shadow.write(index, rows)

    def end(self) -> None:
        """All rows that move have moved."""
        if self._following:
            self.shadow.renew(self.weight)


def _key(weight: Tensor) -> tuple[StorageWeakRef, int, int]:
    """The storage by a weak reference: once freed, its address is soon given to another one."""
    storage = StorageWeakRef(weight.untyped_storage())
    return storage, weight.data_ptr(), weight._version  # noqa: SLF001 - the only counter of in-place edits torch has
