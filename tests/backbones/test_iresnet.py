import pytest
import torch
from torch import nn

from qmargin.backbones import IResNetConfig


def by_hand(blocks: tuple[int, ...], width: int, dim: int, positions: int, channels: int) -> int:
    """Parameters, counted on paper: batch norms 2, PReLU 1 per channel."""
    total = 9 * channels * width + 3 * width
    entering = width
    for stage, count in enumerate(blocks):
        leaving = width * 2**stage
        first = 9 * entering * leaving + 9 * leaving**2 + 2 * entering + 5 * leaving + entering * leaving + 2 * leaving
        total += first + (count - 1) * (18 * leaving**2 + 7 * leaving)
        entering = leaving
    return total + 2 * entering + (entering * positions + 1) * dim + 2 * dim


@pytest.mark.parametrize(
    ("depth", "exact", "published"),
    [
        (18, 24_025_600, 24.0),
        (34, 34_139_328, 34.1),
        (50, 43_590_848, 43.6),
        (100, 65_156_160, 65.2),
        (200, 118_833_920, 118.8),
    ],
)
def test_the_number_of_parameters_is_the_published_one(depth: int, exact: int, published: float) -> None:
    config = IResNetConfig(depth=depth)
    with torch.device("meta"):
        net = config.build()
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == exact == by_hand(config.stages, 64, 512, 7 * 7, 3)
    assert round(count / 1e6, 1) == published


def test_the_number_of_parameters_follows_blocks_width_and_sizes() -> None:
    config = IResNetConfig(blocks=(1, 3, 2, 1), width=6, embedding_dim=10, height=56, input_width=46, channels=1)
    count = sum(parameter.numel() for parameter in config.build().parameters())
    assert count == by_hand((1, 3, 2, 1), 6, 10, 4 * 3, 1)


def test_parameters_have_the_names_of_arcface_torch() -> None:
    with torch.device("meta"):
        names = set(IResNetConfig(depth=18).build().state_dict())
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    block = {"conv1.weight", "conv2.weight", "prelu.weight"} | {f"bn{i}.{name}" for i in (1, 2, 3) for name in norm}
    mapped = block | {"downsample.0.weight"} | {f"downsample.1.{name}" for name in norm}
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{owner}.{name}" for owner in ("bn1", "bn2", "features") for name in norm}
    for stage in (1, 2, 3, 4):
        expected |= {f"layer{stage}.0.{name}" for name in mapped} | {f"layer{stage}.1.{name}" for name in block}
    assert names == expected


def test_stages_halve_height_and_width_and_double_the_channels() -> None:
    net = IResNetConfig(blocks=(1, 1, 2, 1), width=4, embedding_dim=6, height=56, input_width=46, channels=1).build()
    shapes = []
    for stage in (net.prelu, net.layer1, net.layer2, net.layer3, net.layer4):
        stage.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    net(torch.zeros(2, 1, 56, 46))
    assert shapes == [(4, 56, 46), (4, 28, 23), (8, 14, 12), (16, 7, 6), (32, 4, 3)]


def test_the_scale_of_the_last_batch_norm_stays_one() -> None:
    net = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=6, height=16, input_width=16).build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        net(torch.randn(4, 3, 16, 16)).square().sum().backward()
        optimizer.step()
    assert torch.equal(net.features.weight, torch.ones(6))
    assert not torch.equal(net.features.bias, torch.zeros(6))


def test_convolutions_start_at_a_deviation_of_a_tenth() -> None:
    net = IResNetConfig(blocks=(1, 1, 1, 1), width=32, embedding_dim=6, height=16, input_width=16).build()
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.1, rel=0.1), name


def test_dropout_acts_in_train_mode_only() -> None:
    torch.manual_seed(0)
    net = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=6, dropout=0.5, height=16, input_width=16).build()
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))


def test_an_unknown_depth_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"depth must be one of 18, 34, 50, 100, 200, got 101; or give blocks"):
        IResNetConfig(depth=101)


@pytest.mark.parametrize("arguments", [{}, {"depth": 18, "blocks": (1, 1, 1, 1)}])
def test_exactly_one_of_depth_and_blocks_is_given(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"takes either a depth, e.g. depth=50, or the blocks .* set the other one to"):
        IResNetConfig(**arguments)  # type: ignore[arg-type]


def test_blocks_are_four_counts() -> None:
    with pytest.raises(ValueError, match=r"blocks must hold four counts, one a stage, got \(1, 1\)"):
        IResNetConfig(blocks=(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"IResNetConfig.blocks\[2\] must be an integer >= 1, got 0"):
        IResNetConfig(blocks=(1, 1, 0, 1))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_is_a_share(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
        IResNetConfig(depth=18, dropout=dropout)
