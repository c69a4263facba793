from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qmargin.data import ImageFormat, OrlFaces, batches, decode_image, normalise
from qmargin.data.processes import decode_in_processes
from qmargin.protocols import training_validator
from qmargin.recipes import find_recipe
from qmargin.scoring import Embeddings, embed, embed_files, embed_run
from qmargin.training import train


class Flatten(torch.nn.Module):
    """An image is its own embedding; dropout shows whether the network was put into eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.dropout(images.flatten(1))
        return vectors


def test_an_embedding_is_that_of_the_image_plus_that_of_its_mirror() -> None:
    manifest = OrlFaces().read().subset("test")
    image = ImageFormat(height=14, width=11, channels=1, fit="resize")
    result = embed(Flatten(), manifest, image, batch_size=7)
    assert result.vectors.shape == (100, 14 * 11)
    assert result.paths.tolist() == list(manifest.paths)
    assert result.identities.tolist() == list(manifest.identities)
    picture = decode_image(manifest.root / manifest.paths[13], 14, 11, 1, "resize")  # (height, width, channels)
    both = normalise(torch.from_numpy(np.stack([picture, picture[:, ::-1]])).permute(0, 3, 1, 2)).flatten(1)
    np.testing.assert_allclose(result.vectors[13], both.sum(0).numpy(), atol=1e-6)


def test_embeddings_survive_the_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    result = Embeddings(np.ones((2, 3), dtype=np.float32), np.array(["a", "b"]), np.array(["a/1.jpg", "b/1.jpg"]))
    path = tmp_path / "embeddings-test.npz"
    result.save(path)
    loaded = Embeddings.load(path)
    assert np.array_equal(loaded.vectors, result.vectors)
    assert loaded.paths.tolist() == ["a/1.jpg", "b/1.jpg"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"does not hold embeddings"):
        Embeddings.load(path)
    with pytest.raises(ValueError, match=r"no embeddings at .*: run qmargin evaluate on that run first"):
        Embeddings.load(tmp_path / "nothing.npz")


def test_images_are_decoded_by_the_workers_of_the_config_and_the_embeddings_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(find_recipe("faces-orl").with_loss("cosface"), max_steps=2)
    threads, processes = (
        train(replace(config, data=replace(config.image_data, processes=asked, workers=3)), tmp_path / name)
        for name, asked in (("threads", False), ("processes", True))
    )
    used: list[int] = []

    def watched(jobs: Any, workers: int) -> Any:
        used.append(workers)
        return decode_in_processes(jobs, workers)

    monkeypatch.setattr(batches, "decode_in_processes", watched)
    expected = embed_run(threads, "test").vectors
    assert used == []
    assert np.array_equal(embed_run(processes, "test").vectors, expected)
    faces = OrlFaces().read().subset("test")
    files = [faces.root / path for path in faces.paths]
    assert np.array_equal(embed_files(processes, files).vectors, expected)
    validate = training_validator(
        replace(processes.read_config(), data=replace(config.image_data, processes=True, validation_identities=5))
    )
    validate(config.backbone.build())
    assert used == [3, 3, 2]
