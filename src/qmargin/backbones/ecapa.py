"""ECAPA-TDNN: filter banks -> raw speaker embedding.

Parameters have the names they have in WeSpeaker, so that the weights of its `ECAPA_TDNN_GLOB_c512` and `_c1024` load
with `strict=True` once their `projection.*` is left out (`without_projection`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qmargin.backbones._frames import Mask, checked_features, masked, mean_and_std, mean_over_frames
from qmargin.backbones._inputs import check_counts

SCALE = 8  # parts that a Res2 convolution cuts its channels into
DILATIONS = (2, 3, 4)
FIRST_KERNEL = 5  # frames that the first convolution sees
LONGEST_STRIDE = FIRST_KERNEL // 2 + 1  # beyond it the last frame of an utterance may be passed over


@dataclass(frozen=True, kw_only=True)
class EcapaConfig:
    """ECAPA-TDNN: three squeeze-and-excitation Res2 blocks, their outputs together, attentive statistics.

        features -> conv5 -> block (dilation 2) -> block (3) -> block (4) -> all three, conv1 -> mean and deviation,
        weighted by attention -> BN -> linear -> embedding

    Parameters at 80 bins and 192 dimensions: 512 channels 6.19 M, 1024 channels 14.65 M.

    Raises:
        ValueError: a size below 1, or channels that are no multiple of 8.

    Example:
        >>> backbone = EcapaConfig(channels=64, pooled=96, bottleneck=32).build().eval()
        >>> backbone(torch.zeros(2, 200, 80)).shape
        torch.Size([2, 192])

    Reference: Desplanques et al., "ECAPA-TDNN", Interspeech 2020, arXiv 2005.07143. Sibling: `SpeakerResNetConfig`.
    """

    channels: int = 512
    """Channels of the blocks, a multiple of 8."""
    embedding_dim: int = 192
    """Size of the embedding."""
    bins: int = 80
    """Mel bins of the features."""
    pooled: int = 1536
    """Channels that are pooled over the frames."""
    bottleneck: int = 128
    """Channels inside squeeze-and-excitation and attention."""
    global_context: bool = True
    """Whether attention sees mean and deviation of the whole utterance beside each frame."""
    stride: int = 1
    """Frames that the first convolution steps by, 1 to 3: at 3 all that follows has a third of the frames to compute.
    The published networks have 1."""

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built."""
        check_counts("EcapaConfig", channels=self.channels, embedding_dim=self.embedding_dim, bins=self.bins)
        check_counts("EcapaConfig", pooled=self.pooled, bottleneck=self.bottleneck)
        check_counts("EcapaConfig", stride=self.stride)
        if self.stride > LONGEST_STRIDE:
            raise ValueError(
                f"EcapaConfig.stride must be at most {LONGEST_STRIDE}, or frames are passed over, got {self.stride}"
            )
        if self.channels % SCALE:
            raise ValueError(f"EcapaConfig.channels must be a multiple of {SCALE}, got {self.channels}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(bins,): frames may be any number."""
        return (self.bins,)

    def build(self) -> "Ecapa":
        """The network, with fresh weights from torch's generator."""
        return Ecapa(self)


class ConvReluNorm(nn.Module):
    """Convolution over frames, ReLU, batch norm; frames keep their number, or it is divided by the stride."""

    def __init__(self, entering: int, leaving: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(entering, leaving, kernel, stride, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(leaving)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, entering, frames) to (batch, leaving, frames / stride), rounded up; padded frames are 0."""
        return masked(self.bn(functional.relu(self.conv(x))), mask)


class Res2Conv(nn.Module):
    """Channels in eight parts: each is added to what the one before became, and convolved; the last passes through."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SCALE
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, channels, frames) to the same shape; padded frames are 0."""
        *parts, last = x.chunk(SCALE, dim=1)  # (batch, channels / 8, frames) each
        found: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            entering = part + found[-1] if found else part
            found.append(masked(norm(functional.relu(conv(entering))), mask))
        return torch.cat([*found, last], dim=1)


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the means of all channels over the frames."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        squeezed = functional.relu(self.linear1(mean_over_frames(x, mask)))  # (batch, bottleneck)
        return x * torch.sigmoid(self.linear2(squeezed))[..., None]


class Block(nn.Module):
    """Convolution, Res2 convolution, convolution, gates; plus its input."""

    def __init__(self, channels: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.se_res2block = nn.ModuleList(
            (
                ConvReluNorm(channels, channels, 1),
                Res2Conv(channels, dilation),
                ConvReluNorm(channels, channels, 1),
                SqueezeExcite(channels, bottleneck),
            )
        )

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        out = x
        for layer in self.se_res2block:
            out = layer(out, mask)
        return x + out


class AttentivePool(nn.Module):
    """Mean and deviation over the frames, each channel with weights of its own that sum to one."""

    def __init__(self, channels: int, bottleneck: int, *, global_context: bool) -> None:
        super().__init__()
        self.global_context = global_context
        self.linear1 = nn.Conv1d(3 * channels if global_context else channels, bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, channels, frames) to (batch, 2 channels)."""
        seen = x
        if self.global_context:
            context = [part[..., None].expand_as(x) for part in mean_and_std(x, mask, 1e-10)]
            seen = torch.cat([x, *context], dim=1)  # (batch, 3 channels, frames)
        energy = self.linear2(torch.tanh(self.linear1(seen)))  # (batch, channels, frames)
        if mask is not None:
            energy = energy.masked_fill(~mask[:, None, :], float("-inf"))
        weights = energy.softmax(dim=-1)
        mean = (weights * x).sum(dim=-1)  # (batch, channels)
        variance = (weights * x.square()).sum(dim=-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=1)


class Ecapa(nn.Module):
    """The network of an `EcapaConfig`; features (batch, frames, bins) -> (batch, dim), raw.

    Blocks follow the caller's autocast; pooling, the last batch norm and the last linear map are computed in the dtype
    of their weights. Calling it raises ValueError for features of another shape, lengths outside them, or one utterance
    alone in train mode.
    """

    def __init__(self, config: EcapaConfig) -> None:
        super().__init__()
        self.config = config
        self.layer1 = ConvReluNorm(config.bins, config.channels, FIRST_KERNEL, config.stride)
        self.layer2 = Block(config.channels, DILATIONS[0], config.bottleneck)
        self.layer3 = Block(config.channels, DILATIONS[1], config.bottleneck)
        self.layer4 = Block(config.channels, DILATIONS[2], config.bottleneck)
        self.conv = nn.Conv1d(3 * config.channels, config.pooled, 1)
        self.pool = AttentivePool(config.pooled, config.bottleneck, global_context=config.global_context)
        self.bn = nn.BatchNorm1d(2 * config.pooled)
        self.linear = nn.Linear(2 * config.pooled, config.embedding_dim)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed features (batch, frames, bins), of which `lengths` (batch,) frames are there; returns (batch, dim)."""
        mask = checked_features(features, lengths, self.config.bins, training=self.training)
        x = masked(features.transpose(1, 2), mask)  # (batch, bins, frames)
        mask = None if mask is None else mask[:, :: self.config.stride]  # a frame stands for itself and those behind it
        x = self.layer1(x, mask)  # (batch, channels, frames / stride)
        first = self.layer2(x, mask)
        second = self.layer3(first, mask)
        third = self.layer4(second, mask)
        x = functional.relu(self.conv(torch.cat([first, second, third], dim=1)))  # (batch, pooled, frames / stride)
        with torch.autocast(device_type=x.device.type, enabled=False):
            pooled = self.pool(x.to(self.linear.weight.dtype), mask)  # (batch, 2 pooled)
            embeddings: Tensor = self.linear(self.bn(pooled))  # (batch, dim)
        return embeddings
