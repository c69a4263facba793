"""Features from a backbone and from files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from torch import Tensor, nn

from qmargin.data import ImageFormat
from qmargin.scoring import Embedder, Features

IMAGE = ImageFormat(height=6, width=4, channels=3)
PIXELS = np.random.default_rng(0).integers(0, 256, size=(23, 6, 4, 3), dtype=np.uint8)


class Flat(nn.Module):
    """A fixed linear map, with dropout that eval mode must turn off."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(72, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


def expected(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    scaled = pixels.astype(float) / 127.5 - 1
    features: NDArray[np.float64] = (
        scaled.transpose(0, 3, 1, 2).reshape(len(pixels), -1) @ Flat().weight.detach().double().numpy()
    )
    return features


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
def test_images_and_mirrors_are_embedded_in_their_order(batch_size: int) -> None:
    found = Embedder(Flat(), IMAGE, "cpu").embed(PIXELS.__getitem__, 23, mirrors=True, batch_size=batch_size)
    assert found.mirrors is not None
    assert_allclose(found.images, expected(PIXELS), atol=1e-5)
    assert_allclose(found.mirrors, expected(PIXELS[:, :, ::-1]), atol=1e-5)


def test_mirrors_are_embedded_where_they_are_asked_for_only() -> None:
    assert Embedder(Flat(), IMAGE, "cpu").embed(PIXELS.__getitem__, 23, mirrors=False).mirrors is None


def test_images_are_decoded_a_batch_ahead_at_most() -> None:
    decoded: list[int] = []
    embedded: list[int] = []

    class Watching(Flat):
        def forward(self, images: Tensor) -> Tensor:
            embedded.append(len(images))
            assert len(decoded) <= sum(embedded) + 5
            return super().forward(images)

    def decode(place: int) -> NDArray[np.uint8]:
        decoded.append(place)
        pixels: NDArray[np.uint8] = PIXELS[place]
        return pixels

    Embedder(Watching(), IMAGE, "cpu").embed(decode, 23, mirrors=False, batch_size=5)
    assert embedded == [5, 5, 5, 5, 3]
    assert sorted(decoded) == list(range(23))


def test_an_image_that_fails_ends_the_embedding_with_its_error() -> None:
    def decode(place: int) -> NDArray[np.uint8]:
        if place == 9:
            raise ValueError("image 9 is broken")
        pixels: NDArray[np.uint8] = PIXELS[place]
        return pixels

    with pytest.raises(ValueError, match="image 9 is broken"):
        Embedder(Flat(), IMAGE, "cpu").embed(decode, 23, mirrors=False, batch_size=4)


def test_features_are_saved_and_read(tmp_path: Path) -> None:
    both = Features(np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32))
    both.save(tmp_path / "f.npz")
    read = Features.load(tmp_path / "f.npz")
    assert_array_equal(read.images, both.images)
    assert read.mirrors is not None
    assert_array_equal(read.mirrors, np.zeros((3, 2)))
    Features(both.images).save(tmp_path / "g.npz")
    assert Features.load(tmp_path / "g.npz").mirrors is None
    np.save(tmp_path / "f.npy", both.images)
    np.save(tmp_path / "m.npy", both.images + 1)
    mapped = Features.load(tmp_path / "f.npy", tmp_path / "m.npy")
    assert isinstance(mapped.images, np.memmap)
    assert isinstance(mapped.mirrors, np.memmap)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.npy", None, r"no features at .*f\.npy: there is no such file"),
        ("f.npz", None, r"no features at .*f\.npz"),
        ("f.npy", b"text", r"f\.npy does not hold features"),
        ("f.npz", b"text", r"f\.npz does not hold features"),
        ("f.npy", np.ones(3), r"features must be floats of shape \(images, dim\), got float64 \(3,\)"),
        ("f.npy", np.ones((3, 2), int), r"got int64 \(3, 2\)"),
        ("f.npy", np.empty((0, 2)), r"got float64 \(0, 2\)"),
        ("f.npy", np.array([None]), r"f\.npy does not hold features"),
        ("f.npz", {"vectors": np.ones((3, 2))}, r"it has the arrays vectors, not `features`"),
        ("f.npz", {"features": np.array([None])}, r"f\.npz does not hold features: Object arrays"),
    ],
)
def test_what_are_no_features_is_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    with pytest.raises(ValueError, match=message):
        Features.load(path)


def test_an_archive_holds_its_own_mirrors(tmp_path: Path) -> None:
    Features(np.ones((3, 2), np.float32)).save(tmp_path / "f.npz")
    with pytest.raises(
        ValueError, match=r"f\.npz is a \.npz, which holds the mirrors too, as `mirrors`; .*m\.npy is one too"
    ):
        Features.load(tmp_path / "f.npz", tmp_path / "m.npy")
