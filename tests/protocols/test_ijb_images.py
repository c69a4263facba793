"""Loose crops become aligned faces, in the order of the lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from qmargin.data import FACE_TEMPLATE, ImageFormat, align_face
from qmargin.protocols import IjbLists, read_ijb
from qmargin.protocols.ijb_images import embed_ijb
from qmargin.protocols.ijb_synthetic import SyntheticIjb
from qmargin.scoring import Embedder


class Corners(nn.Module):
    """Some pixels of an image, as its feature."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 20:100:20, 20:90:20].flatten(1)


EMBEDDER = Embedder(Corners(), ImageFormat(), "cpu")


@pytest.fixture
def lists(tmp_path: Path) -> IjbLists:
    SyntheticIjb(subjects=2, probes=3, images=6, genuine=2, impostor=2, dim=2).write(tmp_path)
    return read_ijb(tmp_path / "meta")


def crops(folder: Path, lists: IjbLists) -> Path:
    folder.mkdir()
    for place, name in enumerate(lists.images):
        pixels = np.random.default_rng(place).integers(0, 256, size=(90 + place, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, format="PNG")
    return folder


def test_each_crop_is_aligned_by_its_own_landmarks_and_embedded_with_its_mirror(
    tmp_path: Path, lists: IjbLists
) -> None:
    folder = crops(tmp_path / "loose_crop", lists)
    found = embed_ijb(lists, folder, EMBEDDER, batch_size=4)
    assert found.mirrors is not None
    for place, name in enumerate(lists.images):
        face = align_face(Image.open(folder / name), lists.landmarks[place])
        for part, view in ((found.images, face), (found.mirrors, face[:, ::-1])):
            pixels = torch.from_numpy(view.transpose(2, 0, 1).copy()).float()[None] / 127.5 - 1
            assert part[place] == pytest.approx(Corners()(pixels)[0].numpy(), abs=1e-6)
    assert len({tuple(row) for row in found.images.tolist()}) == 6


def test_missing_and_broken_images_and_other_sizes_are_refused(tmp_path: Path, lists: IjbLists) -> None:
    folder = crops(tmp_path / "loose_crop", lists)
    with pytest.raises(ValueError, match=r"shape \(3, 112, 112\), this backbone was trained on \(1, 28, 23\)"):
        embed_ijb(lists, folder, Embedder(Corners(), ImageFormat(height=28, width=23, channels=1), "cpu"))
    (folder / "3.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3\.jpg: cannot decode .*3\.jpg: its content is none of"):
        embed_ijb(lists, folder, EMBEDDER)
    for name in ("2.jpg", "3.jpg", "5.jpg", "6.jpg"):
        (folder / name).unlink()
    with pytest.raises(
        ValueError, match=r"4 of the 6 images of the lists are not in .*: 2\.jpg, 3\.jpg, 5\.jpg and 1 more"
    ):
        embed_ijb(lists, folder, EMBEDDER)


def test_landmarks_of_no_face_are_named_with_their_image(tmp_path: Path, lists: IjbLists) -> None:
    folder = crops(tmp_path / "loose_crop", lists)
    lists.landmarks[:] = FACE_TEMPLATE
    lists.landmarks[2] = 7.0
    with pytest.raises(ValueError, match=r"^3\.jpg: landmarks must be finite and not all one point"):
        embed_ijb(lists, folder, EMBEDDER)
