"""What every backbone promises: each row of the table passes all of it."""

import json
from copy import deepcopy

import pytest
import torch
from cattrs import Converter
from cattrs.strategies import configure_tagged_union
from torch import Tensor, nn

from qmargin.backbones import IResNetConfig, MobileFaceNetConfig
from qmargin.backbones._inputs import checked

Config = IResNetConfig | MobileFaceNetConfig

CONFIGS: dict[str, Config] = {
    "iresnet": IResNetConfig(blocks=(1, 2, 1, 1), width=4, embedding_dim=12, height=32, input_width=32),
    "iresnet-odd-grey": IResNetConfig(
        blocks=(1, 1, 1, 1), width=8, embedding_dim=7, dropout=0.3, height=56, input_width=46, channels=1
    ),
    "iresnet-tiny-images": IResNetConfig(blocks=(1, 1, 1, 1), width=2, embedding_dim=5, height=9, input_width=5),
    "mobilefacenet": MobileFaceNetConfig(width=4, embedding_dim=12, height=32, input_width=32),
    "mobilefacenet-odd-grey": MobileFaceNetConfig(width=8, embedding_dim=7, height=56, input_width=46, channels=1),
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> Config:
    return CONFIGS[request.param]


@pytest.fixture
def net(config: Config) -> nn.Module:
    torch.manual_seed(0)
    return config.build()


def test_the_order_of_pixels_is_changed_on_a_cpu_alone() -> None:
    """There it crashes oneDNN; elsewhere channels last is what was asked for."""
    for device, kept in (("cpu", False), ("meta", True)):
        given = torch.zeros(4, 3, 8, 8, device=device).to(memory_format=torch.channels_last)
        passed = checked(given, (3, 8, 8), training=True)
        assert passed.is_contiguous(memory_format=torch.channels_last) is kept


def images(config: Config, batch: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, *config.input_shape, generator=generator) * 2 - 1


def test_an_image_becomes_an_embedding(config: Config, net: nn.Module) -> None:
    for mode in (net.train(), net.eval()):
        embeddings = mode(images(config))
        assert embeddings.shape == (4, config.embedding_dim)
        assert embeddings.dtype == torch.float32
        assert embeddings.isfinite().all()


def test_embeddings_are_raw(config: Config, net: nn.Module) -> None:
    norms = net(images(config)).norm(dim=1)
    assert norms.std() > 1e-3 * norms.mean()


def test_the_gradient_reaches_the_images_and_every_learned_parameter(config: Config, net: nn.Module) -> None:
    # In eval mode, where a batch norm is an affine map: in train mode it takes out the effect of a bias before it.
    batch = images(config, 6).requires_grad_()
    direction = torch.randn(6, config.embedding_dim, generator=torch.Generator().manual_seed(2))
    (net.eval()(batch) * direction).sum().backward()
    assert batch.grad is not None
    assert batch.grad.flatten(1).norm(dim=1).min() > 0
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.norm() > 1e-4 * batch.grad.norm(), name


def test_evaluation_is_deterministic_and_changes_nothing(config: Config, net: nn.Module) -> None:
    net.eval()
    before = deepcopy(net.state_dict())
    first, second = net(images(config)), net(images(config))
    assert torch.equal(first, second)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


def test_training_moves_the_running_statistics(config: Config, net: nn.Module) -> None:
    before = deepcopy(net.state_dict())
    net.train()(images(config))
    after = net.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in after if name.endswith("running_mean"))


def test_in_evaluation_an_embedding_does_not_depend_on_the_rest_of_the_batch(config: Config, net: nn.Module) -> None:
    net.train()(images(config, 8, seed=3))  # running statistics of something
    net.eval()
    batch = images(config, 5)
    together = net(batch)
    alone = torch.cat([net(image.unsqueeze(0)) for image in batch])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1])


def test_the_order_of_pixels_in_memory_does_not_matter(config: Config, net: nn.Module) -> None:
    # A permuted (height, width, channels) array; narrow strided convolutions once corrupted memory on it.
    results = []
    for batch in (images(config), images(config).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)):
        other = deepcopy(net)
        torch.manual_seed(0)  # of the dropout
        for _ in range(3):
            other(batch).square().sum().backward()
        results.append([parameter.grad for parameter in other.parameters() if parameter.requires_grad])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_the_weights_survive_the_round_trip_of_a_state_dict(config: Config, net: nn.Module) -> None:
    net.train()(images(config))
    other = config.build()
    assert not torch.equal(other.eval()(images(config)), net.eval()(images(config)))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(images(config)), net(images(config)))


def test_bfloat16_autocast_gives_float32_embeddings_near_the_exact_ones(config: Config, net: nn.Module) -> None:
    net.train()(images(config, 16, seed=3))
    net.eval()
    exact = net(images(config))
    with torch.autocast("cpu", torch.bfloat16):
        low = net(images(config))
    assert low.dtype == torch.float32
    assert torch.cosine_similarity(low, exact).min() > 0.98
    with torch.autocast("cpu", torch.bfloat16):
        loss = net.train()(images(config)).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters() if p.requires_grad)


def test_float64_weights_give_float64_embeddings(config: Config, net: nn.Module) -> None:
    embeddings = net.double().eval()(images(config).double())
    assert embeddings.dtype == torch.float64


def test_a_seed_decides_the_weights(config: Config) -> None:
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(torch.cat([parameter.flatten() for parameter in config.build().parameters()]))
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_images_of_another_shape_are_refused_with_both_shapes(config: Config, net: nn.Module) -> None:
    channels, height, width = config.input_shape
    expected = rf"\(batch, channels, height, width\) = \(batch, {channels}, {height}, {width}\)"
    for shape in (
        (2, channels, height + 1, width),
        (2, channels, height, width - 1),
        (2, 4 - channels, height, width),
        (channels, height, width),
        (0, channels, height, width),
        (2, channels, height, width, 1),
        (2,),
    ):
        arrived = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        with pytest.raises(ValueError, match=rf"{expected} with batch >= 1, got \({arrived}\); set channels, height"):
            net(torch.zeros(shape))


def test_pixels_that_are_not_normalised_are_refused(config: Config, net: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"floating point in \[-1, 1\], got torch.uint8: pass them through normalise"):
        net(torch.zeros(2, *config.input_shape, dtype=torch.uint8))


def test_one_image_alone_is_refused_in_train_mode_and_embedded_in_eval_mode(config: Config, net: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"at least 2 images, got 1; call eval\(\) to embed"):
        net.train()(images(config, 1))
    assert net.eval()(images(config, 1)).shape == (1, config.embedding_dim)


def test_the_config_survives_json(config: Config) -> None:
    converter = Converter(forbid_extra_keys=True)
    configure_tagged_union(Config, converter, tag_name="kind")
    text = json.dumps(converter.unstructure(config, Config))
    assert converter.structure(json.loads(text), Config) == config  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["width", "embedding_dim", "height", "input_width", "channels"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_size_below_one_is_refused_by_name(name: str, value: object) -> None:
    kinds: list[tuple[type[Config], dict[str, object]]] = [(IResNetConfig, {"depth": 18}), (MobileFaceNetConfig, {})]
    for kind, rest in kinds:
        with pytest.raises(ValueError, match=rf"{kind.__name__}.{name} must be an integer >= 1, got {value}"):
            kind(**{name: value}, **rest)  # type: ignore[arg-type]
