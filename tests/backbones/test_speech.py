"""What every backbone of speech promises: each row of the table passes all of it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, SpeakerResNetConfig, without_projection
from qmargin.backbones._dense_tdnn import segment_means
from qmargin.backbones._frames import mean_and_std
from qmargin.backbones.ecapa import AttentivePool, Res2Conv

Config = EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig

CONFIGS: dict[str, Config] = {
    "ecapa": EcapaConfig(channels=64, pooled=24, bottleneck=8, embedding_dim=12, bins=16),
    "ecapa-plain": EcapaConfig(channels=32, pooled=40, bottleneck=4, embedding_dim=7, bins=80, global_context=False),
    "ecapa-stride": EcapaConfig(channels=32, pooled=24, bottleneck=8, embedding_dim=12, bins=16, stride=3),
    "resnet": SpeakerResNetConfig(blocks=(1, 2, 1, 1), width=4, embedding_dim=12, bins=16),
    "cam++": CamPlusPlusConfig(
        layers=(1, 3, 2), growth=8, bottleneck=16, channels=24, width=8, embedding_dim=12, bins=16
    ),
}
LENGTHS = [1, 2, 7, 8, 9, 31, 64, 100, 199, 201, 230]  # segments of CAM++ end at 200


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> Config:
    return CONFIGS[request.param]


@pytest.fixture
def net(config: Config) -> nn.Module:
    """A network whose batch norms have seen something: a shift of 0 would hide a mask that is missing behind one."""
    torch.manual_seed(0)
    net = config.build()
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            for tensor in (module.weight, module.bias):
                tensor.data.normal_(0.5, 0.5, generator=generator)
    with torch.no_grad():
        for seed in range(20):
            net(1.0 + features(config, 50, seed=seed))
    return net


def features(config: Config, frames: int, batch: int = 4, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, config.bins, generator=generator)


def test_features_become_an_embedding(config: Config, net: nn.Module) -> None:
    for mode in (net.train(), net.eval()):
        embeddings = mode(features(config, 50))
        assert embeddings.shape == (4, config.embedding_dim)
        assert embeddings.dtype == torch.float32
        assert embeddings.isfinite().all()
    assert config.input_shape == (config.bins,)


def test_an_utterance_has_the_same_embedding_alone_and_in_a_batch(config: Config, net: nn.Module) -> None:
    utterances = [features(config, length, 1, seed=length)[0] for length in LENGTHS]
    net.eval()
    alone = torch.cat([net(utterance[None]) for utterance in utterances])
    for padding in (0.0, 7.0, -1e3):
        batch = pad_sequence(utterances, batch_first=True, padding_value=padding)
        torch.testing.assert_close(net(batch, torch.tensor(LENGTHS)), alone, atol=1e-5, rtol=1e-4)


def test_lengths_that_are_all_there_change_nothing(config: Config, net: nn.Module) -> None:
    batch = features(config, 40)
    net.eval()
    torch.testing.assert_close(net(batch, torch.full((4,), 40)), net(batch), atol=1e-6, rtol=1e-5)


def test_every_frame_matters(config: Config, net: nn.Module) -> None:
    batch = features(config, 40, 1)
    net.eval()
    plain = net(batch)
    for frame in (0, 17, 39):
        changed = batch.clone()
        changed[0, frame] += 3.0
        assert not torch.allclose(net(changed), plain, atol=1e-4)


def test_the_gradient_reaches_every_parameter_also_through_masks(config: Config, net: nn.Module) -> None:
    batch = features(config, 40).requires_grad_()
    net.eval()(batch, torch.tensor([40, 9, 1, 25])).square().sum().backward()
    assert batch.grad is not None
    assert batch.grad.isfinite().all()
    assert not batch.grad[1, 9:].any()
    assert batch.grad[1, :9].any()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # a bias before the softmax over frames moves every frame alike
        assert parameter.grad.any() or name == "pool.linear2.bias", name


def test_embeddings_are_float32_under_autocast(config: Config, net: nn.Module) -> None:
    batch = features(config, 40)
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = net(batch)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, net(batch), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (EcapaConfig(channels=512, embedding_dim=192), 6.19),
        (EcapaConfig(channels=1024, embedding_dim=192), 14.65),
        (SpeakerResNetConfig(embedding_dim=256), 6.63),
        (CamPlusPlusConfig(), 7.18),
    ],
    ids=["ecapa-c512", "ecapa-c1024", "resnet34", "cam++"],
)
def test_the_published_numbers_of_parameters(config: Config, millions: float) -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in config.build().parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.01)


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def names_of_campplus(config: CamPlusPlusConfig) -> set[str]:
    names = {f"head.conv{n}.weight" for n in (1, 2)} | {f"head.bn{n}.{part}" for n in (1, 2) for part in NORM}
    for stage in (1, 2):
        place = f"head.layer{stage}"
        names |= {f"{place}.0.shortcut.0.weight", *(f"{place}.0.shortcut.1.{part}" for part in NORM)}
        names |= {f"{place}.{block}.conv{n}.weight" for block in (0, 1) for n in (1, 2)}
        names |= {f"{place}.{block}.bn{n}.{part}" for block in (0, 1) for n in (1, 2) for part in NORM}
    norms = ["tdnn.nonlinear", "out_nonlinear"]
    names |= {"xvector.tdnn.linear.weight", "xvector.dense.linear.weight"}
    for block, layers in enumerate(config.layers, start=1):
        norms.append(f"transit{block}.nonlinear")
        names.add(f"xvector.transit{block}.linear.weight")
        for place in (f"block{block}.tdnnd{layer}" for layer in range(1, layers + 1)):
            norms += [f"{place}.nonlinear1", f"{place}.nonlinear2"]
            names |= {f"xvector.{place}.linear1.weight", f"xvector.{place}.cam_layer.linear_local.weight"}
            names |= {f"xvector.{place}.cam_layer.linear{n}.{part}" for n in (1, 2) for part in ("weight", "bias")}
    names |= {f"xvector.{norm}.batchnorm.{part}" for norm in norms for part in NORM}
    return names | {f"xvector.dense.nonlinear.batchnorm.{part}" for part in NORM[2:]}  # it has no weights of its own


def wespeaker_names(config: Config) -> set[str]:
    """Names of the parameters in WeSpeaker's models, written down by hand."""
    if isinstance(config, SpeakerResNetConfig):
        names = {"conv1.weight", "seg_1.weight", "seg_1.bias", *(f"bn1.{part}" for part in NORM)}
        for stage, blocks in enumerate(config.blocks, start=1):
            for block in range(blocks):
                place = f"layer{stage}.{block}"
                names |= {f"{place}.conv{n}.weight" for n in (1, 2)}
                names |= {f"{place}.bn{n}.{part}" for n in (1, 2) for part in NORM}
                if stage > 1 and block == 0:
                    names |= {f"{place}.shortcut.0.weight", *(f"{place}.shortcut.1.{part}" for part in NORM)}
        return names
    if isinstance(config, CamPlusPlusConfig):
        return names_of_campplus(config)
    linear = ("weight", "bias")
    layers = ["layer1", *(f"layer{n}.se_res2block.{place}" for n in (2, 3, 4) for place in (0, 2))]
    names = {f"{layer}.conv.{part}" for layer in layers for part in linear}
    names |= {f"{layer}.bn.{part}" for layer in layers for part in NORM}
    names |= {f"layer{n}.se_res2block.1.convs.{c}.{part}" for n in (2, 3, 4) for c in range(7) for part in linear}
    names |= {f"layer{n}.se_res2block.1.bns.{c}.{part}" for n in (2, 3, 4) for c in range(7) for part in NORM}
    names |= {f"layer{n}.se_res2block.3.linear{c}.{part}" for n in (2, 3, 4) for c in (1, 2) for part in linear}
    names |= {f"{layer}.{part}" for layer in ("conv", "pool.linear1", "pool.linear2", "linear") for part in linear}
    return names | {f"bn.{part}" for part in NORM}


def test_weights_of_wespeaker_load_under_their_names(config: Config, net: nn.Module) -> None:
    weights = net.state_dict()
    assert set(weights) == wespeaker_names(config)
    other = config.build()
    other.load_state_dict(without_projection({**weights, "projection.weight": torch.zeros(9, config.embedding_dim)}))
    batch = features(config, 30)
    assert torch.equal(other.eval()(batch), net.eval()(batch))


def test_a_res2_convolution_adds_what_the_part_before_became() -> None:
    layer = Res2Conv(16, dilation=2).eval()
    x = torch.randn(2, 16, 20, generator=torch.Generator().manual_seed(0))
    expected = x.clone()
    for part in range(7):
        rows = slice(2 * part, 2 * part + 2)
        entering = x[:, rows] + (expected[:, 2 * part - 2 : 2 * part] if part else 0.0)
        expected[:, rows] = layer.bns[part](layer.convs[part](entering).clamp(min=0.0))
    torch.testing.assert_close(layer(x, None), expected)


def test_attention_weights_each_channel_by_itself() -> None:
    pool = AttentivePool(5, 3, global_context=True)
    x = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    lengths = (11, 4)
    mask = torch.arange(11) < torch.tensor(lengths)[:, None]
    found = pool(x, mask)
    for row, length in enumerate(lengths):
        part = x[row, :, :length]  # (channels, frames)
        context = torch.cat([part.mean(1), (part.var(1) + 1e-10).sqrt()])[:, None].expand(-1, length)
        energy = pool.linear2(torch.tanh(pool.linear1(torch.cat([part, context])[None])))[0]
        for channel in range(5):
            weight = energy[channel].softmax(0)
            mean = (weight * part[channel]).sum()
            deviation = (weight * (part[channel] - mean) ** 2).sum().sqrt()
            torch.testing.assert_close(found[row, channel], mean)
            torch.testing.assert_close(found[row, 5 + channel], deviation, atol=1e-5, rtol=1e-4)


def test_the_mean_of_a_segment_is_that_of_the_frames_that_are_there() -> None:
    x = torch.randn(3, 2, 230, generator=torch.Generator().manual_seed(0))
    lengths = (230, 130, 70)
    mask = torch.arange(230) < torch.tensor(lengths)[:, None]
    found = segment_means(x * mask[:, None], mask)
    assert found.shape == x.shape
    for row, length in enumerate(lengths):
        for frame in range(length):
            start = frame // 100 * 100
            expected = x[row, :, start : min(start + 100, length)].mean(1)
            torch.testing.assert_close(found[row, :, frame], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(segment_means(x, None)[0], found[0], atol=1e-6, rtol=1e-5)


def test_statistics_are_those_of_torch_and_of_one_frame_there_are_some() -> None:
    x = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    mean, std = mean_and_std(x, None, 0.0)
    torch.testing.assert_close((mean, std), (x.mean(-1), x.std(-1)))
    _, std = mean_and_std(x[..., :1], None, 1e-8)
    torch.testing.assert_close(std, torch.full((2, 3), 1e-4))


def test_other_shapes_are_refused(config: Config, net: nn.Module) -> None:
    batch = features(config, 20)
    for wrong, law in (
        (batch[..., 1:], rf"\(batch, frames, {config.bins}\) with at least one of each, got \(4, 20,"),
        (batch[0], r"features of shape \(batch, frames, bins\)"),
        (batch[:, :0], r"got \(4, 0,"),
        (batch.long(), r"features must be floating point, got torch.int64"),
    ):
        with pytest.raises(ValueError, match=law):
            net(wrong)
    with pytest.raises(ValueError, match=r"in train mode need at least 2 utterances, got 1; call eval\(\)"):
        net.train()(batch[:1])
    for lengths, law in (
        ([20, 21, 1, 1], r"lengths must be in \[1, 20\], the frames that arrive: got 1 to 21"),
        ([20, 0, 1, 1], r"got 0 to 20"),
        ([20, 20], r"lengths must be integers of shape \(4,\)"),
        ([1.0, 2.0, 3.0, 4.0], r"lengths must be integers"),
    ):
        with pytest.raises(ValueError, match=law):
            net.eval()(batch, torch.tensor(lengths))


def test_networks_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ValueError, match=r"EcapaConfig.channels must be a multiple of 8, got 100"):
        EcapaConfig(channels=100)
    with pytest.raises(ValueError, match=r"EcapaConfig.pooled must be an integer >= 1, got 0"):
        EcapaConfig(pooled=0)
    with pytest.raises(ValueError, match=r"EcapaConfig.stride must be at most 3, or frames are passed over, got 4"):
        EcapaConfig(stride=4)
    with pytest.raises(ValueError, match=r"SpeakerResNetConfig.bins must be a multiple of 8, got 60"):
        SpeakerResNetConfig(bins=60)
    with pytest.raises(ValueError, match=r"SpeakerResNetConfig.blocks\[2\] must be an integer >= 1, got 0"):
        SpeakerResNetConfig(blocks=(1, 1, 0, 1))
    with pytest.raises(ValueError, match=r"CamPlusPlusConfig.bins must be a multiple of 8, got 60"):
        CamPlusPlusConfig(bins=60)
    with pytest.raises(ValueError, match=r"CamPlusPlusConfig.layers\[1\] must be an integer >= 1, got 0"):
        CamPlusPlusConfig(layers=(1, 0, 1))
    with pytest.raises(ValueError, match=r"CamPlusPlusConfig.layers must hold three counts"):
        CamPlusPlusConfig(layers=(1, 1))  # type: ignore[arg-type] # what a user may pass
    with pytest.raises(ValueError, match=r"SpeakerResNetConfig.blocks must hold four counts"):
        SpeakerResNetConfig(blocks=(1, 1, 1))  # type: ignore[arg-type] # what a user may pass
