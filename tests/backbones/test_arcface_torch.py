"""Weights under arcface_torch's names, against its forward pass written out by hand."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin.backbones import IResNet, IResNetConfig, MobileFaceNetConfig, read_arcface_torch, write_arcface_torch

BLOCKS, WIDTH, DIM, SIDE = (2, 1, 3, 1), 4, 6, 32
Weights = dict[str, Tensor]


def batch_norm_names(prefix: str, channels: int) -> Weights:
    """Of a network that has been trained: no statistic is where it starts."""
    return {
        f"{prefix}.weight": torch.rand(channels) + 0.5,
        f"{prefix}.bias": torch.randn(channels),
        f"{prefix}.running_mean": torch.randn(channels),
        f"{prefix}.running_var": torch.rand(channels) + 0.5,
        f"{prefix}.num_batches_tracked": torch.tensor(7),
    }


def synthetic() -> Weights:
    """A state dict by arcface_torch's naming, written from its iresnet.py and not from our network."""
    weights = {"conv1.weight": torch.randn(WIDTH, 3, 3, 3) * 0.2, **batch_norm_names("bn1", WIDTH)}
    weights["prelu.weight"] = torch.rand(WIDTH)
    entering = WIDTH
    for stage, count in enumerate(BLOCKS, 1):
        leaving = WIDTH * 2 ** (stage - 1)
        for index in range(count):
            at = f"layer{stage}.{index}"
            weights |= batch_norm_names(f"{at}.bn1", entering)
            weights[f"{at}.conv1.weight"] = torch.randn(leaving, entering, 3, 3) * 0.2
            weights |= batch_norm_names(f"{at}.bn2", leaving)
            weights[f"{at}.prelu.weight"] = torch.rand(leaving)
            weights[f"{at}.conv2.weight"] = torch.randn(leaving, leaving, 3, 3) * 0.2
            weights |= batch_norm_names(f"{at}.bn3", leaving)
            if index == 0:
                weights[f"{at}.downsample.0.weight"] = torch.randn(leaving, entering, 1, 1) * 0.2
                weights |= batch_norm_names(f"{at}.downsample.1", leaving)
            entering = leaving
    weights |= batch_norm_names("bn2", entering)
    weights["fc.weight"] = torch.randn(DIM, entering * (SIDE // 16) ** 2) * 0.1
    weights["fc.bias"] = torch.randn(DIM)
    return weights | batch_norm_names("features", DIM) | {"features.weight": torch.ones(DIM)}


def by_hand(weights: Weights, x: Tensor) -> Tensor:
    """Forward pass of arcface_torch's iresnet.py in evaluation mode."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)

    x = F.prelu(norm("bn1", F.conv2d(x, weights["conv1.weight"], padding=1)), weights["prelu.weight"])
    for stage, count in enumerate(BLOCKS, 1):
        for index in range(count):
            at, stride = f"layer{stage}.{index}", 2 if index == 0 else 1
            out = F.conv2d(norm(f"{at}.bn1", x), weights[f"{at}.conv1.weight"], padding=1)
            out = F.prelu(norm(f"{at}.bn2", out), weights[f"{at}.prelu.weight"])
            out = norm(f"{at}.bn3", F.conv2d(out, weights[f"{at}.conv2.weight"], stride=stride, padding=1))
            if index == 0:
                x = norm(f"{at}.downsample.1", F.conv2d(x, weights[f"{at}.downsample.0.weight"], stride=stride))
            x = out + x
    return norm("features", F.linear(norm("bn2", x).flatten(1), weights["fc.weight"], weights["fc.bias"]))


def test_its_weights_give_its_embeddings(tmp_path: Path) -> None:
    weights, images = synthetic(), torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    torch.save(weights, tmp_path / "backbone.pth")
    read = read_arcface_torch(tmp_path / "backbone.pth", SIDE, SIDE)
    assert read.config == IResNetConfig(blocks=BLOCKS, width=WIDTH, embedding_dim=DIM, height=SIDE, input_width=SIDE)
    torch.testing.assert_close(read.build()(images), by_hand(weights, images), rtol=1e-5, atol=1e-5)


def test_a_published_depth_is_named(tmp_path: Path) -> None:
    write_arcface_torch(IResNetConfig(depth=18, width=2, embedding_dim=4).build(), tmp_path / "model.pt")
    assert read_arcface_torch(tmp_path / "model.pt").config == IResNetConfig(depth=18, width=2, embedding_dim=4)


def test_what_is_written_is_what_was_read_in_its_layout(tmp_path: Path) -> None:
    weights = synthetic()
    torch.save(weights, tmp_path / "in.pth")
    write_arcface_torch(read_arcface_torch(tmp_path / "in.pth", SIDE, SIDE).build(), tmp_path / "out.pth")
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    assert set(back) == set(weights)
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("wrap", ["checkpoint", "parallel", "half", "legacy"])
def test_other_ways_in_which_the_same_weights_are_passed_on(tmp_path: Path, wrap: str) -> None:
    weights: dict[str, Any] = {
        name: tensor.half().float() if tensor.is_floating_point() else tensor for name, tensor in synthetic().items()
    }
    saved = {
        "checkpoint": {"epoch": 3, "state_dict_backbone": weights, "state_dict_softmax_fc": {"weight": torch.ones(2)}},
        "parallel": {f"module.{name}": tensor for name, tensor in weights.items()},
        "half": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()},
        "legacy": weights,
    }[wrap]
    torch.save(saved, tmp_path / "b.pth", _use_new_zipfile_serialization=wrap != "legacy")
    read = read_arcface_torch(tmp_path / "b.pth", SIDE, SIDE).weights
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


class Malicious:
    """Unpickled by Python, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("layout", ["zip", "legacy", "bare pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, layout: str) -> None:
    path, trace = tmp_path / "backbone.pth", tmp_path / "trace"
    document = {**synthetic(), "features.bias": Malicious(trace)}
    if layout == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(trace)))
    else:
        torch.save(document, path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(ValueError, match=r"backbone.pth is not read: it asks for more than tensors"):
        read_arcface_torch(path, SIDE, SIDE)
    assert not trace.exists()
    if layout == "bare pickle":
        pickle.loads(path.read_bytes())  # noqa: S301 - shows that the file is armed
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()


def test_what_is_no_iresnet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.pth"
    with pytest.raises(ValueError, match=r"no backbone at .*b.pth"):
        read_arcface_torch(path)
    torch.save(MobileFaceNetConfig(width=4, embedding_dim=4).build().state_dict(), path)
    with pytest.raises(ValueError, match=r"holds no IResNet as arcface_torch names it .* first tensors are stem.0"):
        read_arcface_torch(path)
    torch.save([torch.ones(2)], path)
    with pytest.raises(ValueError, match=r"holds a list, not the state dict of a backbone"):
        read_arcface_torch(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match=r"holds 'epoch', which is no tensor"):
        read_arcface_torch(path)
    torch.save(synthetic() | {"layer1.0.se.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"layer1.0.se.weight is \(2,\), an IResNet .* has no such tensor"):
        read_arcface_torch(path, SIDE, SIDE)
    torch.save(synthetic(), path)
    with pytest.raises(ValueError, match=r"fc.weight is \(6, 128\), an IResNet .* has \(6, 1568\); give the height"):
        read_arcface_torch(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "b.pth"
    torch.save(synthetic(), path)
    whole = path.read_bytes()
    for content in (b"", b"not a file of torch", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"b.pth is (damaged|not read)"):
            read_arcface_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(ValueError, match=r"b.pth is (damaged|not read)"):
        read_arcface_torch(path)


def test_only_iresnets_are_written_under_its_names(tmp_path: Path) -> None:
    other: Any = MobileFaceNetConfig(width=4, embedding_dim=4).build()
    with pytest.raises(ValueError, match=r"arcface_torch names the layers of IResNets; MobileFaceNet has other ones"):
        write_arcface_torch(other, tmp_path / "b.pth")
    network: IResNet = IResNetConfig(blocks=(1, 1, 1, 1), width=4, embedding_dim=4).build()
    with pytest.raises(ValueError, match=r"ends in .pt or .pth, got .*b.onnx"):
        write_arcface_torch(network, tmp_path / "b.onnx")
