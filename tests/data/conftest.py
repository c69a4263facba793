"""Small image files, drawn by the tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmargin.data import Manifest


@pytest.fixture
def save_image(tmp_path: Path) -> Callable[..., Path]:
    """Save random pixels under a path of `tmp_path`: save_image("al/1.png", height=8, width=6, mode="RGB")."""

    def save(name: str, *, height: int = 8, width: int = 6, mode: str = "RGB", seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return save


@pytest.fixture
def people(save_image: Callable[..., Path], tmp_path: Path) -> Manifest:
    """Five people with four 8x6 PNG images each; the last one is the test split."""
    rows = [(f"{name}/{image}.png", name) for name in ("al", "bo", "cy", "di", "ed") for image in range(4)]
    for seed, (path, _) in enumerate(rows):
        save_image(path, seed=seed)
    paths, names = zip(*rows, strict=True)
    return Manifest(tmp_path, paths, names, tuple("test" if name == "ed" else "train" for name in names))
