"""The named rows of the family. Each is a function that returns an `AlphaLoss`; none has a formula of its own.

Names are those of the papers, hence the capitals.
"""
# ruff: noqa: N802

from qmargin.losses.family import AlphaLoss
from qmargin.losses.margins import AdditiveMargin, AngularMargin, NoMargin, ReferenceAngularMargin, ReferenceMargin


def NormFace(scale: float = 64.0) -> AlphaLoss:
    """Softmax cross-entropy of scaled cosines, no margin: `-log softmax(s cos)_y`. Wang et al., 2017.

    Args:
        scale: s > 0.

    Example:
        >>> NormFace(scale=16)
        AlphaLoss(alpha=1.0, scale=16, margin=NoMargin(m=0.0))
    """
    return AlphaLoss(1.0, scale, NoMargin())


def CosFace(margin: float = 0.35, scale: float = 64.0) -> AlphaLoss:
    """Softmax cross-entropy with target logit `s (cos_y - m)`; also called AM-softmax. Wang et al., 2018.

    Args:
        margin: m, a difference of cosines, in [0, 2].
        scale: s > 0.

    Example:
        >>> import torch
        >>> CosFace(margin=0.35, scale=64)(torch.tensor([[0.5, 0.1]]), torch.tensor([0]))
        tensor([0.0400])

    Sibling: `QMargin` with alpha = 1 is the same function.
    """
    return AlphaLoss(1.0, scale, AdditiveMargin(margin))


def ArcFace(margin: float = 0.5, scale: float = 64.0, *, insightface_compatible: bool = False) -> AlphaLoss:
    """Softmax cross-entropy with target logit `s cos(arccos(cos_y) + m)`; also called AAM-softmax. Deng et al., 2019.

    Args:
        margin: m in radians, in [0, pi/2].
        scale: s > 0.
        insightface_compatible: gradient of the plain cosine and no continuation past pi, see `AngularMargin`.

    Example:
        >>> import torch
        >>> ArcFace(margin=0.5, scale=64)(torch.tensor([[0.6, 0.1]]), torch.tensor([0]))
        tensor([0.0618])
    """
    return AlphaLoss(1.0, scale, AngularMargin(margin, insightface_compatible))


def QMargin(alpha: float = 1.5, margin: float = 0.1, scale: float = 6.0, *, angular: bool = False) -> AlphaLoss:
    """Q-Margin: the margin in the target's reference measure, `q_y = 1 / exp_alpha(s m)`, the logits untouched.

    The target's logit is never lowered, so its margin cannot push it out of the support, and the loss is exactly zero
    iff `cos_y - cos_j >= 1/((alpha - 1) s) + m` for every other class j. alpha = 1 is CosFace.

    Args:
        alpha: in [1, 2].
        margin: m, a difference of cosines, in [0, 2]; with `angular`, radians in [0, pi/2].
        scale: s > 0; docs/losses.md says how to choose it.
        angular: measure of the gap that an angular margin opens, see `ReferenceAngularMargin`.

    Example:
        >>> import torch
        >>> QMargin(alpha=1.5, margin=0.1, scale=6)(torch.tensor([[0.3, 0.2, 0.1]]), torch.tensor([0]))
        tensor([0.3812])

    Reference: Koutsianos et al., arXiv 2606.31664.
    """
    kind = ReferenceAngularMargin if angular else ReferenceMargin
    return AlphaLoss(alpha, scale, kind(margin))


def A3M(alpha: float = 1.5, margin: float = 0.1, scale: float = 6.0) -> AlphaLoss:
    """A3M: the angular margin of ArcFace on the target's logit of a sparse loss, `s cos(arccos(cos_y) + m)`.

    Its lowered target falls out of the support (p_y = 0) early in training while prototypes are poor; `QMargin` does
    not. alpha = 1 is ArcFace.

    Args:
        alpha: in [1, 2].
        margin: m in radians, in [0, pi/2].
        scale: s > 0.

    Example:
        >>> A3M()
        AlphaLoss(alpha=1.5, scale=6.0, margin=AngularMargin(m=0.1, insightface_compatible=False))

    Reference: Koutsianos et al., arXiv 2606.31664.
    """
    return AlphaLoss(alpha, scale, AngularMargin(margin))
