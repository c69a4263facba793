"""CAM++: filter banks -> raw speaker embedding, by a densely connected TDNN whose layers are masked by their context.

Parameters have the names they have in WeSpeaker, so that the weights of its `CAMPPlus` (TSTP) load with `strict=True`
once their `projection.*` is left out (`without_projection`).
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qmargin.backbones._dense_tdnn import HALF, DenseBlock, NormRelu, Transition
from qmargin.backbones._frames import Mask, checked_features, masked, mean_and_std
from qmargin.backbones._inputs import check_counts
from qmargin.backbones.speaker_resnet import FOLD, Block

DILATIONS = (1, 2, 2)


@dataclass(frozen=True, kw_only=True)
class CamPlusPlusConfig:
    """CAM++: a small residual network over bins, then three dense blocks over frames; by default 7.18 M parameters.

        features -> conv3x3, four residual blocks, conv3x3, bins / 8 -> conv5, frames / 2 -> three dense blocks, each
        followed by a halving of the channels -> mean and deviation over the frames -> linear, BN -> embedding

    A layer of a dense block adds `growth` channels; it gates them by the mean over the whole utterance plus that over
    the segment of 100 frames around.

    Raises:
        ValueError: a size below 1, or bins that are no multiple of 8.

    Example:
        >>> backbone = CamPlusPlusConfig(layers=(2, 2, 2), growth=8, width=4, channels=16, embedding_dim=64)
        >>> backbone.build().eval()(torch.zeros(2, 200, 80)).shape
        torch.Size([2, 64])

    Reference: Wang et al., "CAM++: a fast and efficient network for speaker verification using context-aware masking",
    Interspeech 2023, arXiv 2303.00332. Siblings: `EcapaConfig`, `SpeakerResNetConfig`.
    """

    layers: tuple[int, int, int] = (12, 24, 16)
    """Layers of the three dense blocks."""
    growth: int = 32
    """Channels that a layer adds."""
    bottleneck: int = 128
    """Channels inside a layer."""
    channels: int = 128
    """Channels that enter the first dense block."""
    width: int = 32
    """Channels of the residual blocks."""
    embedding_dim: int = 512
    """Size of the embedding."""
    bins: int = 80
    """Mel bins of the features, a multiple of 8."""

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built."""
        name = type(self).__name__
        if len(self.layers) != len(DILATIONS):
            raise ValueError(f"{name}.layers must hold three counts, one a block, got {self.layers}")
        check_counts(name, **{f"layers[{block}]": count for block, count in enumerate(self.layers)})
        check_counts(name, growth=self.growth, bottleneck=self.bottleneck, channels=self.channels, width=self.width)
        check_counts(name, embedding_dim=self.embedding_dim, bins=self.bins)
        if self.bins % FOLD:
            raise ValueError(f"{name}.bins must be a multiple of {FOLD}, got {self.bins}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(bins,): frames may be any number."""
        return (self.bins,)

    def build(self) -> "CamPlusPlus":
        """The network, with fresh weights from torch's generator."""
        return CamPlusPlus(self)


class Front(nn.Module):
    """The residual network: features as a picture of one channel, bins divided by 8, frames kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.ModuleList((Block(width, width, (2, 1)), Block(width, width, 1)))
        self.layer2 = nn.ModuleList((Block(width, width, (2, 1)), Block(width, width, 1)))
        self.conv2 = nn.Conv2d(width, width, 3, (2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, bins, frames) to (batch, width * bins / 8, frames); padded frames are 0."""
        x = masked(functional.relu(self.bn1(self.conv1(x[:, None]))), mask)  # (batch, width, bins, frames)
        for block in (*self.layer1, *self.layer2):
            x = block(x, mask)
        return masked(functional.relu(self.bn2(self.conv2(x))), mask).flatten(1, 2)


class FirstConv(nn.Module):
    """Convolution over five frames that halves their number, batch norm, ReLU."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(entering, leaving, 5, 2, padding=2, bias=False)
        self.nonlinear = NormRelu(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, entering, frames) to (batch, leaving, frames / 2), rounded up."""
        out: Tensor = self.nonlinear(self.linear(x))
        return out


class Last(nn.Module):
    """Linear map of the statistics, and a batch norm without weights of its own."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(entering, leaving, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(leaving, affine=False)))

    def forward(self, statistics: Tensor) -> Tensor:
        """Map (batch, entering) to (batch, leaving)."""
        out: Tensor = self.nonlinear(self.linear(statistics[..., None])[..., 0])
        return out


class CamPlusPlus(nn.Module):
    """The network of a `CamPlusPlusConfig`; features (batch, frames, bins) -> (batch, dim), raw.

    Blocks follow the caller's autocast; pooling and what comes after it are computed in the dtype of their weights.
    Calling it raises ValueError for features of another shape, lengths outside them, or one utterance alone in train
    mode.
    """

    def __init__(self, config: CamPlusPlusConfig) -> None:
        super().__init__()
        self.config = config
        self.head = Front(config.width)
        channels = config.channels
        parts: dict[str, nn.Module] = {"tdnn": FirstConv(config.width * (config.bins // FOLD), channels)}
        for place, (count, dilation) in enumerate(zip(config.layers, DILATIONS, strict=True), start=1):
            parts[f"block{place}"] = DenseBlock(count, channels, config.bottleneck, config.growth, dilation)
            channels += count * config.growth
            parts[f"transit{place}"] = Transition(channels)
            channels //= HALF
        self.xvector = nn.ModuleDict(
            {**parts, "out_nonlinear": NormRelu(channels), "dense": Last(2 * channels, config.embedding_dim)}
        )

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed features (batch, frames, bins), of which `lengths` (batch,) frames are there; returns (batch, dim)."""
        mask = checked_features(features, lengths, self.config.bins, training=self.training)
        x = self.head(masked(features.transpose(1, 2), mask), mask)  # (batch, width * bins / 8, frames)
        mask = None if mask is None else mask[:, ::2]  # a frame stands for itself and the one behind it
        x = self.xvector["tdnn"](x)  # (batch, channels, frames / 2)
        for place in range(1, len(DILATIONS) + 1):
            x = self.xvector[f"transit{place}"](self.xvector[f"block{place}"](x, mask))
        x = self.xvector["out_nonlinear"](x)
        last = self.xvector["dense"]
        with torch.autocast(device_type=x.device.type, enabled=False):
            statistics = mean_and_std(x.to(next(last.parameters()).dtype), mask, 1e-8)  # (batch, channels) each
            embeddings: Tensor = last(torch.cat(statistics, dim=1))  # (batch, dim)
        return embeddings
