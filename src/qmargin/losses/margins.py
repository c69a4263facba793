"""Margins: what each does to the target's logit, or to the target's reference measure. Nothing else is touched.

    margin                     target cosine           log q_y                                     alpha = 1 gives
    NoMargin                   cos                     0                                           NormFace
    AdditiveMargin(m)          cos - m                 0                                           CosFace
    AngularMargin(m)           cos(arccos(cos) + m)    0                                           ArcFace
    ReferenceMargin(m)         cos                     -log exp_alpha(s m)                         CosFace
    ReferenceAngularMargin(m)  cos                     -log exp_alpha(s (cos - cos(arccos + m)))   ArcFace's value
    LogPriorMargin(m)          cos                     -m                                          NormFace, logit - m

exp_alpha is the deformed exponential (`qmargin.divergence.deformed_exp`): it makes `m` mean the same for every alpha.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.divergence.deformed import log_reference
from qmargin.divergence.inputs import is_number


class Target(NamedTuple):
    """The target class after its margin."""

    cosine: Tensor  # (batch,) differentiable; its logit is scale times this
    log_q: Tensor | None  # (batch,) log of the target's measure; None is 0


@dataclass(frozen=True)
class Margin:
    """A margin of strength `m`; each kind says its unit. Subclasses define `apply`."""

    m: float = 0.0
    """Strength of the margin, >= 0: a difference of cosines, radians (angular kinds) or nats (log-prior)."""

    def __post_init__(self) -> None:
        """Refuse a strength that is negative, not finite, or beyond what the kind allows."""
        upper = self._upper()
        if not (is_number(self.m) and 0.0 <= self.m <= upper):
            raise ValueError(
                f"the margin m of {type(self).__name__} must be a number in [0, {upper:g}], got {self.m!r}; "
                "a margin asks for more separation, so it cannot be negative"
            )

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:
        """The target's cosine and log measure, from its plain cosine (batch,)."""
        raise NotImplementedError

    @staticmethod
    def _upper() -> float:
        return 2.0  # the whole range of a difference of cosines


@dataclass(frozen=True)
class NoMargin(Margin):
    """No margin: `m` must be 0."""

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:  # noqa: ARG002 - one contract for all kinds
        """The plain cosine."""
        return Target(cosine, None)

    @staticmethod
    def _upper() -> float:
        return 0.0


@dataclass(frozen=True)
class AdditiveMargin(Margin):
    """`m` (a cosine difference) is taken from the target's cosine: CosFace at alpha = 1. Wang et al., 2018."""

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:  # noqa: ARG002
        """`cos - m`."""
        return Target(cosine - self.m, None)


@dataclass(frozen=True)
class AngularMargin(Margin):
    """`m` (radians) is added to the target's angle: ArcFace at alpha = 1, A3M above. Deng et al., 2019.

    Past arccos(cos) + m = pi the value continues as `cos - (1 - cos m)`: continuous, increasing in the cosine, slope 1.
    With `insightface_compatible` the value is cos(arccos(cos) + m) everywhere (it turns back up past pi) and the
    gradient is that of the plain cosine, as in that project's training code.
    """

    insightface_compatible: bool = False

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:  # noqa: ARG002
        """`cos(arccos(cos) + m)`."""
        if self.insightface_compatible:
            shifted = torch.cos(torch.arccos(cosine.detach().clamp(-1.0, 1.0)) + self.m)
            return Target(cosine + (shifted - cosine.detach()), None)
        return Target(shifted_cosine(cosine, self.m), None)

    @staticmethod
    def _upper() -> float:
        return math.pi / 2.0  # beyond it even a perfect embedding would be asked for a negative cosine


@dataclass(frozen=True)
class ReferenceMargin(Margin):
    """`m` (a cosine difference) goes into the reference measure: Q-Margin for alpha > 1, CosFace at alpha = 1.

    The loss is exactly zero iff `scale (cos_y - cos_j) >= 1/(alpha-1) + scale m` for every other class j.
    """

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:
        """The plain cosine, with measure `1 / exp_alpha(scale m)`."""
        return Target(cosine, log_reference(torch.full_like(cosine, scale * self.m), alpha))


@dataclass(frozen=True)
class ReferenceAngularMargin(Margin):
    """`m` (radians) goes into the reference measure as the cosine gap it opens: angular Q-Margin.

    The gap `cos - cos(arccos(cos) + m)` is a constant of the gradient: at alpha = 1 the value is ArcFace's and the
    gradient in the cosine is the plain one.
    """

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:
        """The plain cosine, with measure `1 / exp_alpha(scale (cos - cos(arccos(cos) + m)))`."""
        plain = cosine.detach()
        gap = (plain - shifted_cosine(plain, self.m)).clamp_min(0.0)
        return Target(cosine, log_reference(scale * gap, alpha))

    @staticmethod
    def _upper() -> float:
        return math.pi / 2.0  # beyond it even a perfect embedding would be asked for a negative cosine


@dataclass(frozen=True)
class LogPriorMargin(Margin):
    """`m` (nats) is the measure itself, `log q_y = -m`: separation `exp(m (alpha - 1)) / (alpha - 1)` in logits."""

    def apply(self, cosine: Tensor, scale: float, alpha: float) -> Target:  # noqa: ARG002
        """The plain cosine, with measure `exp(-m)`."""
        return Target(cosine, torch.full_like(cosine, -self.m))

    @staticmethod
    def _upper() -> float:
        return 50.0  # q = 2e-22, where q^(1 - alpha) and the loss are still far inside the range of float32


def shifted_cosine(cosine: Tensor, m: float) -> Tensor:
    """`cos(arccos(cosine) + m)`, continued past pi by `cosine - (1 - cos m)`; differentiable, increasing.

    The derivative sin(theta + m)/sin(theta) grows without bound at theta = 0; there the sine is held at the square
    root of the rounding error of a cosine, so an embedding that equals its prototype has a finite gradient.
    """
    floor = 4.0 * torch.finfo(cosine.dtype).eps
    sine = (1.0 - cosine.square()).clamp_min(floor).sqrt()
    before_pi = cosine * math.cos(m) - sine * math.sin(m)
    return torch.where(cosine > -math.cos(m), before_pi, cosine - (1.0 - math.cos(m)))
