"""What arrives: what is a number, the dtype to compute in, and checks that name the first row that breaks a law."""

from typing import TypeGuard

import torch
from torch import Tensor

INTEGER = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)


def is_number(value: object) -> TypeGuard[float]:
    """An int or a float; True and False are not numbers here, nor is "1.5"."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def to_compute_dtype(tensor: Tensor) -> Tensor:
    """Float32 where the input is narrower: thresholds of bfloat16 logits would be off by whole units at scale 64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_rows(good: Tensor, law: str) -> None:
    """Raise a ValueError `row i: law` for the first False of `good` (batch,).

    One host read. Inside torch.compile the check becomes a device-side assertion with the same law (RuntimeError),
    because a compiled graph cannot build a message from data.
    """
    if torch.compiler.is_compiling():
        torch._assert_async(good.all(), law)  # noqa: SLF001 - the only assertion that lives inside a compiled graph
    elif not good.all():
        bad = (~good).nonzero().flatten().tolist()
        raise ValueError(f"row {bad[0]} of {len(good)} ({len(bad)} rows in all): {law}")


def check_labels(labels: Tensor, rows: int, classes: int) -> None:
    """Labels are integers (batch,) in [0, classes)."""
    if labels.shape != (rows,):
        raise ValueError(f"labels must have shape ({rows},), one for each row, got {tuple(labels.shape)}")
    if labels.dtype not in INTEGER:
        raise ValueError(f"labels must be class indices of an integer dtype (int64), got {labels.dtype}")
    inside = (labels >= 0) & (labels < classes)
    if torch.compiler.is_compiling():
        check_rows(inside, f"labels must be in [0, {classes})")
        return
    if inside.all():
        return
    worst = labels[~inside][0].item()
    check_rows(
        inside,
        f"labels must be in [0, {classes}), got {worst}; count the classes again or map the labels to 0..{classes - 1}",
    )


def check_base(base: Tensor, classes: int, rows: int | None = None) -> Tensor:
    """Return `base`, a constant measure (classes,), or with `rows` also (rows, classes), that is finite and > 0."""
    if base.shape not in ((classes,), (rows, classes)):
        raise ValueError(f"base must have shape ({classes},), one measure for each class, got {tuple(base.shape)}")
    if base.requires_grad:
        raise ValueError("base is a constant of the loss and receives no gradient: pass base.detach()")
    good = (base > 0) & base.isfinite()
    check_rows(
        good if base.ndim == 1 else good.all(dim=1),
        "the base measure must be finite and > 0; give unseen classes a small one",
    )
    return base
