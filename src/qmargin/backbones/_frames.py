"""What backbones of speech share: features of different lengths in one batch, their masks, and statistics over frames.

Padded frames are set to 0 before every convolution that sees neighbours and left out of every statistic, so that an
utterance has the same embedding alone and in a batch. Without lengths nothing is masked, and training pays nothing.
"""

import torch
from torch import Tensor, arange

Mask = Tensor | None  # (batch, frames) bool, True where there is an utterance; None where all frames are


def checked_features(features: Tensor, lengths: Tensor | None, bins: int, *, training: bool) -> Mask:
    """The mask of features that may enter a backbone.

    Args:
        features: (batch, frames, bins) floating point.
        lengths: frames of each utterance (batch,), integers in [1, frames]; None where all are `frames` long.
        bins: what the backbone takes.
        training: whether it is in train mode.

    Raises:
        ValueError: another shape or dtype, lengths outside their range, or one utterance alone in train mode.
    """
    if features.ndim != 3 or features.shape[2] != bins or 0 in features.shape:
        raise ValueError(
            f"this backbone takes features of shape (batch, frames, bins) = (batch, frames, {bins}) with at least one "
            f"of each, got {tuple(features.shape)}; set bins of its config to what arrives"
        )
    if not features.is_floating_point():
        raise ValueError(f"features must be floating point, got {features.dtype}")
    if training and len(features) == 1:
        raise ValueError(
            "the batch norms of a backbone in train mode need at least 2 utterances, got 1; call eval() to embed"
        )
    if lengths is None:
        return None
    frames = features.shape[1]
    if lengths.shape != features.shape[:1] or lengths.is_floating_point():
        raise ValueError(f"lengths must be integers of shape ({len(features)},), got {lengths.dtype} {lengths.shape}")
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > frames:
        raise ValueError(f"lengths must be in [1, {frames}], the frames that arrive: got {least} to {most}")
    return arange(frames, device=features.device) < lengths.to(features.device)[:, None]


def masked(x: Tensor, mask: Mask) -> Tensor:
    """`x` (batch, ..., frames) with padded frames at 0."""
    if mask is None:
        return x
    return x * mask.view(len(mask), *(1,) * (x.ndim - 2), -1).to(x.dtype)


def mean_over_frames(x: Tensor, mask: Mask) -> Tensor:
    """Mean of (batch, channels, frames) over the frames that are there, (batch, channels)."""
    return x.mean(dim=-1) if mask is None else masked(x, mask).sum(dim=-1) / mask.sum(dim=-1, keepdim=True)


def mean_and_std(x: Tensor, mask: Mask, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(variance + epsilon) of (batch, channels, frames) over the frames that are there.

    The variance divides by n - 1, and is 0 of a single frame.

    Returns:
        (batch, channels) each.
    """
    mean = mean_over_frames(x, mask)
    squares = masked((x - mean[..., None]).square(), mask).sum(dim=-1)
    if mask is None:  # sym_max and not max(), which would fix the frames of an exported network
        return mean, (squares / torch.sym_max(x.shape[-1] - 1, 1) + epsilon).sqrt()
    less_one = (mask.sum(dim=-1, keepdim=True) - 1).clamp(min=1)
    return mean, (squares / less_one + epsilon).sqrt()
