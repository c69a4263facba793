"""MobileFaceNet, about a million parameters for phones: image -> raw embedding.

The architecture is Table 1 of the paper. The network of the same name in arcface_torch is another one (twice the
channels, other expansions, 512-d); its weights do not load here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qmargin.backbones._inputs import check_counts, checked


class Bottlenecks(NamedTuple):
    """A row of the paper's table: `repeats` bottlenecks, the first with `stride`."""

    expansion: int  # t, channels inside per channel entering
    widths: int  # c, channels leaving, in units of `MobileFaceNetConfig.width`
    repeats: int  # n
    stride: int  # s


TABLE = (
    Bottlenecks(expansion=2, widths=1, repeats=5, stride=2),
    Bottlenecks(expansion=4, widths=2, repeats=1, stride=2),
    Bottlenecks(expansion=2, widths=2, repeats=6, stride=1),
    Bottlenecks(expansion=4, widths=2, repeats=1, stride=2),
    Bottlenecks(expansion=2, widths=2, repeats=2, stride=1),
)


@dataclass(frozen=True, kw_only=True)
class MobileFaceNetConfig:
    """MobileFaceNet as in the paper: depthwise bottlenecks, then a global depthwise convolution over the whole map.

        image -> conv3x3 (stride 2), depthwise conv3x3 -> bottlenecks -> conv1x1 -> global depthwise conv
              -> linear, BN1d -> embedding

    Every convolution has a batch norm and, unless it is linear, a PReLU. At the defaults it has the paper's 221 M
    multiply-adds, and 1,003,136 parameters: 0.99 M, as the paper counts, once batch norms are folded into biases.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> MobileFaceNetConfig(height=56, input_width=46, channels=1).build().eval()(torch.zeros(2, 1, 56, 46)).shape
        torch.Size([2, 128])

    Reference: Chen et al., "MobileFaceNets", arXiv 1804.07573, Table 1. Sibling: `IResNetConfig`, larger and more
    accurate.
    """

    width: int = 64
    """Channels of the stem; the paper has 64, and every other stage follows in proportion."""
    embedding_dim: int = 128
    """Size of the embedding."""
    height: int = 112
    """Height of the images, pixels."""
    input_width: int = 112
    """Width of the images, pixels."""
    channels: int = 3
    """Channels of the images: 3 is RGB, 1 is grey."""

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built."""
        check_counts("MobileFaceNetConfig", width=self.width, embedding_dim=self.embedding_dim)
        check_counts("MobileFaceNetConfig", height=self.height, input_width=self.input_width, channels=self.channels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return (self.channels, self.height, self.input_width)

    def build(self) -> "MobileFaceNet":
        """The network, with fresh weights from torch's generator."""
        return MobileFaceNet(self)


class Bottleneck(nn.Module):
    """Expand by conv1x1, depthwise conv3x3, project by a linear conv1x1; plus its input where the shape stays.

    Args:
        entering: channels of the input.
        leaving: channels of the output.
        expansion: channels inside, per channel entering.
        stride: 1, or 2 to halve height and width (rounded up).
    """

    def __init__(self, entering: int, leaving: int, expansion: int, stride: int) -> None:
        super().__init__()
        inside = expansion * entering
        self.layers = nn.Sequential(
            *_convolution(entering, inside, 1),
            nn.PReLU(inside),
            *_convolution(inside, inside, 3, stride=stride, padding=1, groups=inside),
            nn.PReLU(inside),
            *_convolution(inside, leaving, 1),
        )
        self.residual = stride == 1 and entering == leaving

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, entering, height, width) to (batch, leaving, height / stride, width / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class MobileFaceNet(nn.Module):
    """The network of a `MobileFaceNetConfig`; images (batch, channels, height, width) -> (batch, dim), raw.

    The convolutions follow the caller's autocast; the last linear map and batch norm are computed in the dtype of
    their weights, so embeddings are float32 under bfloat16 autocast too.

    Calling it raises ValueError for images of another shape, integer images, or one image alone in train mode.
    """

    def __init__(self, config: MobileFaceNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Sequential(
            *_convolution(config.channels, width, 3, stride=2, padding=1),
            nn.PReLU(width),
            *_convolution(width, width, 3, padding=1, groups=width),
            nn.PReLU(width),
        )
        self.bottlenecks = nn.Sequential(*_bottlenecks(width))
        self.expand = nn.Sequential(*_convolution(2 * width, 8 * width, 1), nn.PReLU(8 * width))
        last_map = (-(-config.height // 16), -(-config.input_width // 16))
        self.pool = nn.Sequential(*_convolution(8 * width, 8 * width, last_map, groups=8 * width))
        self.fc = nn.Linear(8 * width, config.embedding_dim, bias=False)
        self.features = nn.BatchNorm1d(config.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (batch, channels, height, width) in [-1, 1]; returns (batch, dim)."""
        images = checked(images, self.config.input_shape, training=self.training)
        x = self.stem(images)  # (batch, width, height / 2, width / 2)
        x = self.bottlenecks(x)  # (batch, 2 width, height / 16, width / 16)
        x = self.expand(x)  # (batch, 8 width, height / 16, width / 16)
        x = self.pool(x).flatten(1)  # (batch, 8 width)
        with torch.autocast(device_type=x.device.type, enabled=False):
            embeddings: Tensor = self.features(self.fc(x.to(self.fc.weight.dtype)))  # (batch, dim)
        return embeddings


def _convolution(
    entering: int, leaving: int, kernel: int | tuple[int, int], *, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(entering, leaving, kernel, stride, padding, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(leaving)


def _bottlenecks(width: int) -> list[Bottleneck]:
    blocks: list[Bottleneck] = []
    entering = width
    for row in TABLE:
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            blocks.append(Bottleneck(entering, row.widths * width, row.expansion, stride))
            entering = row.widths * width
    return blocks
