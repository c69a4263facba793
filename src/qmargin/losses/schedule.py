"""Schedules that belong to the loss: alpha, scale and margin as functions of the progress of training.

They live in the loss field of a recipe, so that two compared recipes still differ in that one field.
"""

import math
from dataclasses import dataclass, replace

from qmargin.losses.family import AlphaLoss
from qmargin.losses.support import SupportControl


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A straight line from `start` to the loss's own value; constant before `begin` and after `end`."""

    start: float
    """Value until `begin`, in the unit of what is scheduled."""
    begin: float = 0.0
    """Share of the training steps at which the value starts to move, in [0, 1]."""
    end: float = 1.0
    """Share of the training steps at which the loss's own value is reached, in (begin, 1]."""

    def __post_init__(self) -> None:
        """Refuse an interval that is empty or outside training."""
        if not math.isfinite(self.start):
            raise ValueError(f"a ramp starts at a finite value, got {self.start}")
        if not 0.0 <= self.begin < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 <= begin < end <= 1 (shares of training), got {self.begin} to {self.end}")

    def value(self, progress: float, final: float) -> float:
        """Value at `progress` in [0, 1], ending at `final`."""
        share = min(max((progress - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return final if share == 1.0 else self.start + share * (final - self.start)


@dataclass(frozen=True, kw_only=True)
class ScheduledLoss:
    """A loss with its schedules; `at(progress)` is the loss of one step. Without ramps it is `final` throughout.

    Example:
        >>> from qmargin.losses import QMargin
        >>> loss = ScheduledLoss(name="qmargin", final=QMargin(alpha=1.5), alpha=Ramp(start=1.0, end=0.5))
        >>> [loss.at(progress).alpha for progress in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 1.25, 1.5, 1.5]
    """

    name: str
    """Name of the setting in tables and plots, e.g. "qmargin"."""
    final: AlphaLoss
    """The loss at the end of training."""
    alpha: Ramp | None = None
    """Schedule of alpha, in [1, 2]."""
    scale: Ramp | None = None
    """Schedule of the scale, in logits per unit of cosine."""
    margin: Ramp | None = None
    """Schedule of the margin's strength m, in the margin's own unit."""
    support: SupportControl | None = None
    """Control of alpha or scale by the mean support size; the value in `final` is then the first one."""

    def __post_init__(self) -> None:
        """Refuse schedules that leave the family: each endpoint must be a valid loss by itself."""
        if not self.name:
            raise ValueError("a loss needs a name, it labels the table's row; for example name='qmargin'")
        self.at(0.0)
        if self.support is not None:
            if getattr(self, self.support.field) is not None:
                raise ValueError(
                    f"{self.support.field} cannot follow a ramp and the support at once: set loss.{self.support.field} "
                    "or loss.support to None"
                )
            self.support.initial(self.final)

    def at(self, progress: float, controlled: float | None = None) -> AlphaLoss:
        """The loss at `progress`, the share of training steps done, in [0, 1].

        Args:
            progress: share of the steps done.
            controlled: where there is a `support`, the value that it has moved its field to; None for the first one.
        """
        final = self.final
        margin = final.margin
        if self.margin is not None:
            margin = replace(margin, m=self.margin.value(progress, margin.m))
        alpha = final.alpha if self.alpha is None else self.alpha.value(progress, final.alpha)
        scale = final.scale if self.scale is None else self.scale.value(progress, final.scale)
        loss = AlphaLoss(alpha, scale, margin)
        return loss if self.support is None or controlled is None else self.support.apply(loss, controlled)
