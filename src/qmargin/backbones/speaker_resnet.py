"""ResNet over filter banks with statistics pooling, as WeSpeaker has it: features -> raw speaker embedding.

Parameters have the names they have in WeSpeaker, so that the weights of its `ResNet18` and `ResNet34` (TSTP, one
embedding layer) load with `strict=True` once their `projection.*` is left out (`without_projection`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qmargin.backbones._frames import Mask, checked_features, masked, mean_and_std
from qmargin.backbones._inputs import check_counts

FOLD = 8  # the stages halve bins and frames three times


@dataclass(frozen=True, kw_only=True)
class SpeakerResNetConfig:
    """A residual network over features as a one-channel picture; the defaults are ResNet34-TSTP, 6.63 M parameters.

        features -> conv3x3 -> four stages of `width * (1, 2, 4, 8)` channels, the last three halving bins and frames
                 -> mean and deviation over the frames -> linear -> embedding

    Raises:
        ValueError: a size below 1, or bins that are no multiple of 8.

    Example:
        >>> backbone = SpeakerResNetConfig(blocks=(1, 1, 1, 1), width=8, embedding_dim=64).build().eval()
        >>> backbone(torch.zeros(2, 200, 80)).shape
        torch.Size([2, 64])

    Reference: He et al., "Deep residual learning", CVPR 2016; Zeinali et al., "BUT system description to VoxCeleb
    speaker recognition challenge 2019", arXiv 1910.12592. Sibling: `EcapaConfig`.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Residual blocks of the four stages: (3, 4, 6, 3) is ResNet34, (2, 2, 2, 2) ResNet18."""
    width: int = 32
    """Channels of the first stage."""
    embedding_dim: int = 256
    """Size of the embedding."""
    bins: int = 80
    """Mel bins of the features, a multiple of 8."""

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built."""
        if len(self.blocks) != 4:
            raise ValueError(f"SpeakerResNetConfig.blocks must hold four counts, one a stage, got {self.blocks}")
        check_counts("SpeakerResNetConfig", **{f"blocks[{stage}]": count for stage, count in enumerate(self.blocks)})
        check_counts("SpeakerResNetConfig", width=self.width, embedding_dim=self.embedding_dim, bins=self.bins)
        if self.bins % FOLD:
            raise ValueError(f"SpeakerResNetConfig.bins must be a multiple of {FOLD}, got {self.bins}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(bins,): frames may be any number."""
        return (self.bins,)

    def build(self) -> "SpeakerResNet":
        """The network, with fresh weights from torch's generator."""
        return SpeakerResNet(self)


class Block(nn.Module):
    """Residual block `conv3x3 (stride), BN, ReLU, conv3x3, BN` plus its input, mapped where the shape changes; ReLU."""

    def __init__(self, entering: int, leaving: int, stride: int | tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, leaving, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(leaving)
        self.conv2 = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(leaving)
        self.shortcut = nn.Sequential()
        if stride != 1 or entering != leaving:
            self.shortcut = nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Map (batch, entering, bins, frames) to (batch, leaving, bins / stride, frames / stride), rounded up.

        A stride of two numbers is that of bins and that of frames.
        """
        out = masked(functional.relu(self.bn1(self.conv1(x))), mask)
        return masked(functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x)), mask)


class SpeakerResNet(nn.Module):
    """The network of a `SpeakerResNetConfig`; features (batch, frames, bins) -> (batch, dim), raw.

    Stages follow the caller's autocast; pooling and the linear map are computed in the dtype of its weights. The
    deviation of a single pooled frame is taken to be that of variance 0 (it would be no number). Calling it raises
    ValueError for features of another shape, lengths outside them, or one utterance alone in train mode.
    """

    def __init__(self, config: SpeakerResNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, config.blocks[0], 1)
        self.layer2 = _stage(width, 2 * width, config.blocks[1], 2)
        self.layer3 = _stage(2 * width, 4 * width, config.blocks[2], 2)
        self.layer4 = _stage(4 * width, 8 * width, config.blocks[3], 2)
        self.seg_1 = nn.Linear(2 * 8 * width * (config.bins // FOLD), config.embedding_dim)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed features (batch, frames, bins), of which `lengths` (batch,) frames are there; returns (batch, dim)."""
        mask = checked_features(features, lengths, self.config.bins, training=self.training)
        x = masked(features.transpose(1, 2)[:, None], mask)  # (batch, 1, bins, frames)
        x = masked(functional.relu(self.bn1(self.conv1(x))), mask)  # (batch, width, bins, frames)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            if stage is not self.layer1 and mask is not None:
                mask = mask[:, ::2]  # a frame stands for itself and the one behind it
            for block in stage:
                x = block(x, mask)  # (batch, 8 width, bins / 8, frames / 8) in the end
        with torch.autocast(device_type=x.device.type, enabled=False):
            statistics = mean_and_std(x.flatten(1, 2).to(self.seg_1.weight.dtype), mask, 1e-8)
            embeddings: Tensor = self.seg_1(torch.cat(statistics, dim=1))  # (batch, dim)
        return embeddings


def _stage(entering: int, leaving: int, blocks: int, stride: int) -> nn.ModuleList:
    return nn.ModuleList((Block(entering, leaving, stride), *(Block(leaving, leaving, 1) for _ in range(blocks - 1))))
