"""The one family of losses, `AlphaLoss(alpha, scale, margin)`."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from qmargin.divergence import alpha_loss_terms, check_alpha
from qmargin.divergence.inputs import check_labels, is_number, to_compute_dtype
from qmargin.losses.margins import Margin, NoMargin


class CosineTerms(NamedTuple):
    """What one evaluation knows of each row."""

    loss: Tensor  # (batch,) >= 0, differentiable in the cosines
    p_target: Tensor  # (batch,) posterior of the label
    support: Tensor  # (batch,) int64, classes with p > 0
    target_cosine: Tensor  # (batch,) before the margin, detached


@dataclass(frozen=True)
class AlphaLoss:
    """Alpha-divergence loss of cosines with a margin on the target: the family of which all our losses are rows.

        theta_j = scale cos_j;  the margin acts on theta_y or on q_y alone;  L = L_alpha(theta, y; q)

    Args:
        alpha: in [1, 2]; 1 is softmax cross-entropy, above it posteriors are sparse.
        scale: s > 0, logits per unit of cosine. For alpha > 1 the loss is zero at a cosine gap of
            `1/((alpha - 1) scale) + m`. Which scale is soft depends on the base measure and the number of classes:
            docs/losses.md.
        margin: one of `qmargin.losses.margins`.

    Calling it: `loss(cosines, labels, base=None) -> (batch,)` with cosines (batch, classes), labels (batch,) integer
    in [0, classes) and an optional base measure (classes,) or (batch, classes). Half precision is computed in
    float32. Errors are those of `qmargin.alpha_loss`.

    Example:
        >>> from qmargin.losses import ReferenceMargin
        >>> loss = AlphaLoss(alpha=1.5, scale=6.0, margin=ReferenceMargin(0.1))
        >>> loss(torch.tensor([[0.9, 0.1, 0.0], [0.3, 0.2, 0.1]]), torch.tensor([0, 0]))
        tensor([0.0000, 0.3812])

    Reference: Koutsianos et al., arXiv 2606.31664. Siblings: the named rows in `qmargin.losses.members`.
    """

    alpha: float = 1.5
    scale: float = 6.0
    margin: Margin = field(default_factory=NoMargin)

    def __post_init__(self) -> None:
        """Refuse values outside the family."""
        check_alpha(self.alpha)
        if not (is_number(self.scale) and self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale must be a finite number > 0 (logits per unit of cosine), got {self.scale!r}")
        if not isinstance(self.margin, Margin) or type(self.margin) is Margin:
            raise ValueError(
                f"margin must be one of qmargin.losses.margins, e.g. ReferenceMargin(0.1): {self.margin!r}"
            )

    def __call__(self, cosines: Tensor, labels: Tensor, base: Tensor | None = None) -> Tensor:
        """Loss of each row (batch,)."""
        return self.terms(cosines, labels, base).loss

    def terms(self, cosines: Tensor, labels: Tensor, base: Tensor | None = None) -> CosineTerms:
        """As calling it, with what a head's statistics need."""
        if cosines.ndim != 2 or not cosines.is_floating_point():
            raise ValueError(f"cosines must be floating point (batch, classes): {cosines.dtype} {tuple(cosines.shape)}")
        check_labels(labels, *cosines.shape)
        with torch.autocast(device_type=cosines.device.type, enabled=False):
            at_label = labels.long().unsqueeze(-1)
            cosines = to_compute_dtype(cosines)
            plain = cosines.gather(-1, at_label).squeeze(-1)  # (batch,)
            target = self.margin.apply(plain, self.scale, self.alpha)
            if target.cosine is not plain:
                cosines = cosines.scatter(-1, at_label, target.cosine.unsqueeze(-1))
            terms = alpha_loss_terms(self.scale * cosines, labels, self.alpha, target.log_q, base)
        return CosineTerms(*terms, target_cosine=plain.detach())
