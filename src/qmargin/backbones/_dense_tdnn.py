"""Dense blocks of a TDNN whose layers are masked by their context: those of CAM++, with WeSpeaker's parameter names."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from qmargin.backbones._frames import Mask, masked, mean_over_frames

SEGMENT = 100  # frames whose mean is the near context of each of them
HALF = 2  # what a transition, and the bottleneck of the gates, divide channels by


class NormRelu(nn.Module):
    """Batch norm and ReLU, over (batch, channels, frames)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.relu(self.batchnorm(x))


class ContextMask(nn.Module):
    """Convolution over three frames, its outputs gated by the utterance's mean plus that of the segment around."""

    def __init__(self, entering: int, leaving: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(entering, leaving, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(entering, max(entering // HALF, 1), 1)
        self.linear2 = nn.Conv1d(max(entering // HALF, 1), leaving, 1)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, entering, frames), padded frames at 0, to (batch, leaving, frames)."""
        context = mean_over_frames(x, mask)[..., None] + segment_means(x, mask)  # (batch, entering, frames)
        gates = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))
        gated: Tensor = self.linear_local(x) * gates
        return gated


def segment_means(x: Tensor, mask: Mask) -> Tensor:
    """Mean of (batch, channels, frames) over each segment of 100 frames, at each of them; padded ones do not count.

    Args:
        x: padded frames at 0.
        mask: (batch, frames); None where all frames are there.

    Returns:
        (batch, channels, frames); 0 in segments of padding.
    """
    means = functional.avg_pool1d(x, SEGMENT, ceil_mode=True)  # (batch, channels, segments); the last may be short
    if mask is not None:
        shares = functional.avg_pool1d(mask[:, None].to(x.dtype), SEGMENT, ceil_mode=True)
        means = means / shares.clamp(min=1.0 / (2 * SEGMENT))  # a share is 0 or at least 1 / 100
    batch, channels, segments = means.shape
    return means[..., None].expand(batch, channels, segments, SEGMENT).flatten(2)[..., : x.shape[-1]]


class DenseLayer(nn.Module):
    """What a layer of a dense block adds: 1x1 convolution of all channels so far, then a masked convolution."""

    def __init__(self, entering: int, bottleneck: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = NormRelu(entering)
        self.linear1 = nn.Conv1d(entering, bottleneck, 1, bias=False)
        self.nonlinear2 = NormRelu(bottleneck)
        self.cam_layer = ContextMask(bottleneck, growth, dilation)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, entering, frames) to (batch, growth, frames)."""
        inner = masked(self.nonlinear2(self.linear1(self.nonlinear1(x))), mask)  # (batch, bottleneck, frames)
        added: Tensor = self.cam_layer(inner, mask)
        return added


class DenseBlock(nn.ModuleDict):
    """Layers that each see the channels of all before them."""

    def __init__(self, count: int, entering: int, bottleneck: int, growth: int, dilation: int) -> None:
        super().__init__(
            {
                f"tdnnd{layer + 1}": DenseLayer(entering + layer * growth, bottleneck, growth, dilation)
                for layer in range(count)
            }
        )

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, entering, frames) to (batch, entering + count * growth, frames)."""
        for layer in self.values():
            x = torch.cat([x, layer(x, mask)], dim=1)
        return x


class Transition(nn.Module):
    """Batch norm, ReLU and a 1x1 convolution that halves the channels."""

    def __init__(self, entering: int) -> None:
        super().__init__()
        self.nonlinear = NormRelu(entering)
        self.linear = nn.Conv1d(entering, entering // HALF, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, entering, frames) to (batch, entering / 2, frames)."""
        out: Tensor = self.linear(self.nonlinear(x))
        return out
