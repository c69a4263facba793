import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.data import ImageFormat, OrlFaces
from qmargin.export import read_trained
from qmargin.recipes import find_recipe
from qmargin.scoring import Embeddings, embed, embed_files, embed_run
from qmargin.scoring.runs import _check_checkpoint
from qmargin.training import AveragingConfig, RunFolder, ValidationConfig, train
from qmargin.training.checkpoint import load_checkpoint
from qmargin.training.codec import to_json
from qmargin.training.validation import Validator


def test_a_run_is_embedded_with_its_newest_checkpoint(tmp_path: Path) -> None:
    config = find_recipe("faces-orl").with_loss("cosface")
    run = train(replace(config, epochs=1), tmp_path / "run")
    first = embed_run(run, "test")
    assert first.vectors.shape == (100, config.backbone.embedding_dim)
    assert np.array_equal(Embeddings.load(run.embeddings("test")).vectors, first.vectors)
    assert np.array_equal(embed_run(run, "test").vectors, first.vectors)


def test_a_checkpoint_of_before_is_read(tmp_path: Path) -> None:
    """One that does not say its input, or lacks a setting that has a default; other inputs are refused."""
    config, run = find_recipe("faces-orl").with_loss("cosface"), RunFolder(tmp_path)
    config = replace(config, data=replace(config.image_data, image=ImageFormat(height=28, width=23, channels=1)))
    said = json.loads(to_json(config.image_data.image))
    assert said.pop("fit") == "exact"
    for saved in ({}, {"input": json.dumps(said)}):
        _check_checkpoint(saved, config, run)
    with pytest.raises(ValueError, match=r"were not trained on: put back its image, ImageFormat\(.*fit='resize'"):
        _check_checkpoint({"input": json.dumps({**said, "fit": "resize"})}, config, run)


def test_a_run_that_keeps_a_mean_of_its_weights_is_embedded_with_it(tmp_path: Path) -> None:
    config = replace(find_recipe("faces-orl").with_loss("cosface"), max_steps=4, averaging=AveragingConfig(ema=0.3))
    run = train(config, tmp_path / "run")
    backbone = config.backbone.build()
    image = config.image_data.image
    saved = load_checkpoint(run.checkpoint)
    found = embed_run(run, "test").vectors
    for name, same in (("average", True), ("backbone", False)):
        backbone.load_state_dict(saved[name])
        assert np.array_equal(embed(backbone, OrlFaces().read().subset("test"), image).vectors, found) is same


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, torch.Tensor]]:
    """A run whose validation at step 2 is the best one and that was trained on to step 4; its weights at step 2."""
    seen: list[dict[str, torch.Tensor]] = []

    def figures(backbone: torch.nn.Module) -> dict[str, float]:
        seen.append(copy.deepcopy(backbone.state_dict()))
        return {"identities.eer": 0.1 * len(seen)}

    config = find_recipe("faces-orl").with_loss("cosface")
    config = replace(config, max_steps=4, validation=ValidationConfig(every=2, watch="identities.eer"))
    run = train(config, tmp_path_factory.mktemp("runs") / "run", validate=Validator(("identities.eer",), figures))
    return run, seen[0]


def test_a_run_is_embedded_with_its_best_weights_where_they_are_asked_for(
    validated: tuple[RunFolder, dict[str, torch.Tensor]],
) -> None:
    run, weights = validated
    backbone = run.read_config().backbone.build()
    backbone.load_state_dict(weights)
    faces, image = OrlFaces().read().subset("test"), run.read_config().image_data.image
    expected = embed(backbone, faces, image).vectors
    best, newest = embed_run(run, "test", weights="best"), embed_run(run, "test")
    assert (best.step, newest.step) == (2, 4)
    assert np.array_equal(best.vectors, expected)
    assert not np.array_equal(newest.vectors, expected)
    files = [faces.root / path for path in faces.paths[:3]]
    assert np.allclose(embed_files(run, files, weights="best").vectors, expected[:3], rtol=0.0, atol=1e-4)
    model = read_trained(run, weights="best")
    assert (model.config.step, model.config.source[-21:]) == (2, ", best identities.eer")
    torch.testing.assert_close(dict(model.network.state_dict()), dict(weights), rtol=0.0, atol=0.0)


def test_best_weights_that_are_not_there_or_take_other_images_are_refused(
    validated: tuple[RunFolder, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    run = RunFolder(shutil.copytree(validated[0].path, tmp_path / "run"))
    config = run.read_config()
    other = replace(config.image_data.image, fit="exact")
    run.config.write_text(to_json(replace(config, data=replace(config.image_data, image=other))))
    with pytest.raises(ValueError, match=r"weights of .*best.safetensors were not trained on: put back its image"):
        embed_run(run, "test", weights="best")
    run.best.unlink()
    with pytest.raises(ValueError, match=r"has no best.safetensors: only a training with --validation.watch keeps"):
        embed_run(run, "test", weights="best")
