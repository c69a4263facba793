import torch
from torch import nn

from qmargin.backbones import MobileFaceNetConfig
from qmargin.backbones.mobilefacenet import Bottleneck


def test_the_number_of_parameters_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        net = MobileFaceNetConfig().build()
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == 1_003_136
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    folded = count - sum(norm.num_features for norm in norms)  # a batch norm's two become one bias
    assert folded == 993_344  # 0.99 M


def test_the_number_of_multiply_adds_is_that_of_the_paper() -> None:
    net = MobileFaceNetConfig().build().eval()
    counted: list[int] = []

    def count(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        counted.append(output[0].numel() * weight[0].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        net(torch.zeros(1, 3, 112, 112))
    assert sum(counted) == 220_965_376  # 221 M


def test_stages_have_the_shapes_of_the_table() -> None:
    net = MobileFaceNetConfig().build().eval()
    shapes = []
    for stage in (net.stem, *net.bottlenecks, net.expand, net.pool):
        stage.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        net(torch.zeros(1, 3, 112, 112))
    assert shapes == [
        (64, 56, 56),
        *[(64, 28, 28)] * 5,
        *[(128, 14, 14)] * 7,
        *[(128, 7, 7)] * 3,
        (512, 7, 7),
        (512, 1, 1),
    ]


def test_a_bottleneck_adds_its_input_where_the_shape_stays() -> None:
    residual = [block.residual for block in MobileFaceNetConfig(width=2).build().bottlenecks]
    assert residual == [False, *[True] * 4, False, *[True] * 6, False, *[True] * 2]
    assert not Bottleneck(entering=4, leaving=8, expansion=2, stride=1).residual


def test_the_global_convolution_covers_the_last_map() -> None:
    net = MobileFaceNetConfig(width=4, height=56, input_width=46, channels=1).build()
    assert net.pool[0].kernel_size == (4, 3)
    assert net.pool[0].groups == 32
