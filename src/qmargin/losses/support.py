"""A schedule that follows the support: alpha or scale is moved so that the mean support size goes along a curve.

Learning-rate-like ramps of alpha and scale say nothing of how many classes a row then teaches: that depends on the data
and on how far training is. Here the number of classes is what is scheduled, and the loss follows.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from qmargin.losses.family import AlphaLoss

Field = Literal["scale", "alpha"]


@dataclass(frozen=True, kw_only=True)
class SupportControl:
    """Moves `scale` or `alpha` after each step so that the mean support size S of a batch follows a target curve T.

    With x = log(scale) or x = alpha, and progress t the share of steps done:

        T(t) = start^(1 - r) end^r,   r = (t - begin) / (finish - begin) held in [0, 1]
        e    = log S - log T(t)                             (> 0: too many classes)
        x   <- x + clip(gain * e, -max_step, max_step),     then held in [low, high]

    An integrating controller in logarithms: a support twice the target moves x as far up as one of half the target
    moves it down. A larger scale or alpha makes supports smaller, so the loop closes; it settles where S = T. With
    k = -d log S / dx near there, e shrinks by the factor 1 - gain k a step: it settles for gain k < 2, and without
    overshoot for gain k <= 1. A batch's S is noisy: x then moves by about gain times the noise of log S.

    State is the one number x stands for (the scale, or alpha): it is saved in the checkpoint, and the next value
    depends on nothing but it, S and t. The first value is the loss's own.

    Raises:
        ValueError: a value outside its range, by name.

    Example:
        >>> control = SupportControl(start=100.0, end=4.0, finish=0.5)
        >>> [round(control.target(progress), 1) for progress in (0.0, 0.25, 0.5, 1.0)]
        [100.0, 20.0, 4.0, 4.0]
        >>> [round(control.updated(6.0, support, progress=0.0), 3) for support in (90.0, 100.0, 110.0, 1000.0)]
        [5.937, 6.0, 6.057, 6.121]

    Sibling: `Ramp`, which schedules the value itself.
    """

    field: Field = "scale"
    """What is moved: scale or alpha; the loss's own value is the first one."""
    start: float = 1000.0
    """Classes with p > 0 a row at the beginning, mean over a batch, >= 1."""
    end: float = 10.0
    """The same at the end, >= 1."""
    begin: float = 0.0
    """Share of the training steps at which the target starts to move, in [0, 1]."""
    finish: float = 1.0
    """Share of the training steps at which the target reaches `end`, in (begin, 1]."""
    gain: float = 0.1
    """Answer to an error of 1 in log(support): step of log(scale), or of alpha."""
    max_step: float = 0.02
    """Largest move a step: of log(scale), or of alpha."""
    low: float = 1.0
    """Least value, in the unit of the field: > 0 for scale, >= 1 for alpha."""
    high: float = 64.0
    """Largest value, at least `low`; at most 2 for alpha."""

    def __post_init__(self) -> None:
        """Refuse curves and bounds that make no sense."""
        if self.field not in ("scale", "alpha"):
            raise ValueError(f"a support can be controlled by 'scale' or 'alpha', got {self.field!r}")
        for name in ("start", "end"):
            if not 1.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"support.{name} is a number of classes >= 1, got {getattr(self, name)!r}")
        if not 0.0 <= self.begin < self.finish <= 1.0:
            raise ValueError(
                f"a support curve needs 0 <= begin < finish <= 1 (shares of training), got {self.begin} to "
                f"{self.finish}"
            )
        for name in ("gain", "max_step"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"support.{name} must be a finite number > 0, got {getattr(self, name)!r}")
        if not 0.0 < self.low <= self.high < math.inf:
            raise ValueError(f"support needs 0 < low <= high (bounds of {self.field}), got {self.low} and {self.high}")
        if self.field == "alpha" and not (self.low >= 1.0 and self.high <= 2.0):
            raise ValueError(f"support.low and high bound alpha, which is in [1, 2]: got {self.low} and {self.high}")

    def initial(self, loss: AlphaLoss) -> float:
        """The first value: the loss's own; a ValueError where it is out of bounds, or its support is every class."""
        value = float(getattr(loss, self.field))
        if not self.low <= value <= self.high:
            raise ValueError(
                f"the loss starts with {self.field} {value:g}, outside of support.low {self.low:g} to support.high "
                f"{self.high:g}: widen them"
            )
        if self.field == "scale" and loss.alpha == 1.0:
            raise ValueError("at alpha = 1 every class is in the support, whatever the scale: control needs alpha > 1")
        return value

    def apply(self, loss: AlphaLoss, value: float) -> AlphaLoss:
        """The loss with the controlled value in its field."""
        return replace(loss, scale=value) if self.field == "scale" else replace(loss, alpha=value)

    def target(self, progress: float) -> float:
        """Classes a row that are aimed at when the share `progress` of the steps is done."""
        share = min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        return math.exp((1.0 - share) * math.log(self.start) + share * math.log(self.end))

    def updated(self, value: float, support: float, progress: float) -> float:
        """The value for the next step.

        Args:
            value: that of the step just done.
            support: mean support size of its batch, >= 1.
            progress: share of the steps done.
        """
        assert support >= 1.0, "every row has its largest class in its support"
        error = math.log(support) - math.log(self.target(progress))
        move = min(max(self.gain * error, -self.max_step), self.max_step)
        if move == 0.0:
            return value
        moved = value + move if self.field == "alpha" else math.exp(math.log(value) + move)
        return min(max(moved, self.low), self.high)
