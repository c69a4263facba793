"""A user's own TorchScript model: embedded as a run is, and refused where it is no image model."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.data import ImageFormat, OrlFaces
from qmargin.scoring import embed, embed_files_torchscript
from qmargin.scoring.torchscript_model import TorchScriptBackbone

IMAGE = ImageFormat(height=112, width=92, channels=1)


def save(module: torch.nn.Module, path: Path) -> Path:
    """Export as a user would; torch wishes they would not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(28 * 23, 5), torch.nn.Dropout()
    )


def test_it_gives_what_the_module_gives_in_evaluation_mode(tmp_path: Path) -> None:
    module = network()
    manifest = OrlFaces().read().subset("test")
    files = [manifest.root / path for path in manifest.paths[:3]]
    found = embed_files_torchscript(save(module, tmp_path / "model.pt"), files, IMAGE)
    expected = embed(module, manifest, IMAGE).vectors[:3]
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_image_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model at"):
        TorchScriptBackbone(tmp_path / "nothing.pt", IMAGE)
    path = tmp_path / "junk.pt"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"junk.pt holds no TorchScript module; of a state dict or a pickled module"):
        TorchScriptBackbone(path, IMAGE)
    torch.save(network().state_dict(), path)
    with pytest.raises(ValueError, match="holds no TorchScript module"):
        TorchScriptBackbone(path, IMAGE)
    model = TorchScriptBackbone(save(network(), tmp_path / "model.pt"), IMAGE)
    with pytest.raises(ValueError, match=re.escape("does not take images (batch, channels, height, width) (2, 1, 8")):
        model(torch.zeros(2, 1, 8, 8))
    model = TorchScriptBackbone(save(torch.nn.AvgPool2d(4), tmp_path / "model.pt"), IMAGE)
    with pytest.raises(ValueError, match=re.escape("the output must be (batch, dim), got (2, 1, 28, 23) for 2 images")):
        model(torch.zeros(2, 1, 112, 92))
