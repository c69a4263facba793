"""IResNet, the residual network of face recognition: image -> raw embedding.

Parameters have the names they have in arcface_torch, so a `backbone.pth` published for it loads with `strict=True`
into the config of the same depth.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qmargin.backbones._inputs import check_counts, checked

DEPTHS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
# As arcface_torch. A batch norm follows every convolution, so this sets how far the first steps go, not the scale of
# anything; at width 8 on the ORL faces, Kaiming's and torch's own start end in the same error within the seeds.
CONV_STD = 0.1


@dataclass(frozen=True, kw_only=True)
class IResNetConfig:
    """An IResNet by its published depth, or by its blocks.

    Four stages of `blocks` residual blocks with `width * (1, 2, 4, 8)` channels, each halving height and width
    (rounded up):

        image -> conv3x3, BN, PReLU -> stages -> BN, dropout, flatten, linear, BN1d -> embedding

    Parameters at 512-d and 112x112x3: depth 18 24.03 M, 34 34.14 M, 50 43.59 M, 100 65.16 M, 200 118.83 M.

    Raises:
        ValueError: an unknown depth, both or neither of depth and blocks, a size below 1, dropout outside [0, 1).

    Example:
        >>> config = IResNetConfig(blocks=(1, 1, 1, 1), width=16, embedding_dim=64, height=56, input_width=46)
        >>> config.build().eval()(torch.zeros(2, 3, 56, 46)).shape
        torch.Size([2, 64])

    Reference: Duta et al., "Improved residual networks", arXiv 2004.04989, and Deng et al., "ArcFace", arXiv
    1801.07698, section 3.1, with the shortcut and the head of insightface's arcface_torch. Sibling:
    `MobileFaceNetConfig`, 25 to 100 times smaller.
    """

    depth: int | None = None
    """Published depth: 18, 34, 50, 100 or 200; None where blocks are given."""
    blocks: tuple[int, int, int, int] | None = None
    """Residual blocks of the four stages; None where a depth is given."""
    width: int = 64
    """Channels of the stem and the first stage; the published networks have 64."""
    embedding_dim: int = 512
    """Size of the embedding."""
    dropout: float = 0.0
    """Share of the last feature map that is dropped in training, in [0, 1)."""
    height: int = 112
    """Height of the images, pixels."""
    input_width: int = 112
    """Width of the images, pixels."""
    channels: int = 3
    """Channels of the images: 3 is RGB, 1 is grey."""

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built."""
        if (self.depth is None) == (self.blocks is None):
            raise ValueError(
                "IResNetConfig takes either a depth, e.g. depth=50, or the blocks of its four stages, e.g. "
                f"blocks=(1, 1, 1, 1): got depth={self.depth} and blocks={self.blocks}; set the other one to None"
            )
        if self.depth is not None and self.depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise ValueError(f"IResNetConfig.depth must be one of {known}, got {self.depth!r}; or give blocks")
        if len(self.stages) != 4:
            raise ValueError(f"IResNetConfig.blocks must hold four counts, one a stage, got {self.blocks}")
        check_counts("IResNetConfig", **{f"blocks[{stage}]": count for stage, count in enumerate(self.stages)})
        check_counts("IResNetConfig", width=self.width, embedding_dim=self.embedding_dim)
        check_counts("IResNetConfig", height=self.height, input_width=self.input_width, channels=self.channels)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"IResNetConfig.dropout must be in [0, 1), got {self.dropout!r}")

    @property
    def stages(self) -> tuple[int, ...]:
        """Residual blocks of each stage."""
        blocks = self.blocks if self.depth is None else DEPTHS[self.depth]
        assert blocks is not None, "__post_init__ lets exactly one of depth and blocks through"
        return blocks

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return (self.channels, self.height, self.input_width)

    def build(self) -> "IResNet":
        """The network, with fresh weights from torch's generator."""
        return IResNet(self)


class Block(nn.Module):
    """Residual block `BN, conv3x3, BN, PReLU, conv3x3 (stride), BN` plus its input, mapped where the shape changes.

    Args:
        entering: channels of the input.
        leaving: channels of the output.
        stride: 1, or 2 to halve height and width (rounded up).
    """

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(entering)
        self.conv1 = nn.Conv2d(entering, leaving, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(leaving)
        self.prelu = nn.PReLU(leaving)
        self.conv2 = nn.Conv2d(leaving, leaving, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(leaving)
        self.downsample: nn.Module | None = None
        if stride != 1 or entering != leaving:
            self.downsample = nn.Sequential(
                nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, entering, height, width) to (batch, leaving, height / stride, width / stride)."""
        out: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))  # (batch, leaving, height, width)
        out = self.bn3(self.conv2(out))  # (batch, leaving, height / stride, width / stride)
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return out + shortcut


class IResNet(nn.Module):
    """The network of an `IResNetConfig`; images (batch, channels, height, width) -> (batch, dim), raw.

    The stages follow the caller's autocast; the last linear map and batch norm are computed in the dtype of their
    weights, so embeddings are float32 under bfloat16 autocast too. The weight of the last batch norm stays 1 (its bias
    is learned), as in arcface_torch: the norm of an embedding is the head's business.

    Calling it raises ValueError for images of another shape, integer images, or one image alone in train mode.
    """

    def __init__(self, config: IResNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(config.channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        blocks = config.stages
        self.layer1 = _stage(width, width, blocks[0])
        self.layer2 = _stage(width, 2 * width, blocks[1])
        self.layer3 = _stage(2 * width, 4 * width, blocks[2])
        self.layer4 = _stage(4 * width, 8 * width, blocks[3])
        self.bn2 = nn.BatchNorm2d(8 * width)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(8 * width * -(-config.height // 16) * -(-config.input_width // 16), config.embedding_dim)
        self.features = nn.BatchNorm1d(config.embedding_dim)
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=CONV_STD)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (batch, channels, height, width) in [-1, 1]; returns (batch, dim)."""
        images = checked(images, self.config.input_shape, training=self.training)
        x = self.prelu(self.bn1(self.conv1(images)))  # (batch, width, height, width)
        x = self.layer1(x)  # (batch, width, height / 2, width / 2)
        x = self.layer2(x)  # (batch, 2 width, height / 4, width / 4)
        x = self.layer3(x)  # (batch, 4 width, height / 8, width / 8)
        x = self.layer4(x)  # (batch, 8 width, height / 16, width / 16)
        x = self.dropout(self.bn2(x).flatten(1))  # (batch, 8 width * height / 16 * width / 16)
        with torch.autocast(device_type=x.device.type, enabled=False):
            embeddings: Tensor = self.features(self.fc(x.to(self.fc.weight.dtype)))  # (batch, dim)
        return embeddings


def _stage(entering: int, leaving: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(entering, leaving, 2), *(Block(leaving, leaving, 1) for _ in range(blocks - 1)))
