from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.data import read_orl
from qmargin.metrics import det_curve, eer_of, tar_at_far_of
from qmargin.protocols import all_pairs, training_validator, write_bin
from qmargin.recipes import find_recipe
from qmargin.scoring import embed_samples
from qmargin.training import TrainConfig, ValidationConfig
from qmargin.training.manifest import read_samples


@pytest.fixture
def config() -> TrainConfig:
    config = find_recipe("faces-orl").with_loss("qmargin")
    return replace(
        config,
        data=replace(config.image_data, validation_identities=8),
        backbone=replace(config.image_backbone, width=4, embedding_dim=16),
        validation=ValidationConfig(every=5),
    )


def packed(path: Path) -> Path:
    """A `.bin` set of the test people of ORL, 30 pairs of each kind."""
    faces = read_orl().subset("test")
    contents = [(faces.root / name).read_bytes() for name in faces.paths]
    sides = [(10 * (n % 10), 10 * (n % 10) + 1 + n // 20 if n % 2 else (10 * (n % 10) + 35) % 100) for n in range(60)]
    write_bin(path, [contents[side] for pair in sides for side in pair], [bool(n % 2) for n in range(60)])
    return path


def test_figures_are_those_of_the_protocols_and_nothing_random_is_touched(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, validation=ValidationConfig(every=5, bins=(packed(tmp_path / "orl.bin"),)))
    backbone = config.backbone.build()
    torch.manual_seed(3)
    expected_draw = torch.rand(3)
    torch.manual_seed(3)
    figures = training_validator(config)(backbone)
    assert torch.equal(torch.rand(3), expected_draw)
    assert set(figures) == {"identities.eer", "identities.tar@1e-02", "orl.accuracy", "orl.eer"}
    trials = all_pairs(embed_samples(backbone, read_samples(config).subset("validation"), config.data))
    det = det_curve(trials.scores, trials.labels)
    assert len(np.unique(trials.subjects)) == 8
    assert figures["identities.eer"] == eer_of(det)
    assert figures["identities.tar@1e-02"] == tar_at_far_of(det, 1e-2).tar
    assert 0.5 <= figures["orl.accuracy"] <= 1.0


def test_nothing_to_validate_on_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    nothing = replace(config, data=replace(config.data, validation_identities=0))
    with pytest.raises(ValueError, match=r"there is nothing to validate on: hold out identities"):
        training_validator(nothing)
    missing = replace(config, validation=ValidationConfig(every=5, bins=(tmp_path / "lfw.bin",)))
    with pytest.raises(ValueError, match=r"cannot read .*lfw.bin"):
        training_validator(missing)


def test_a_set_of_images_of_another_size_stops_before_the_first_step(config: TrainConfig, tmp_path: Path) -> None:
    image = replace(config.image_data.image, fit="exact")
    exact = replace(
        config,
        data=replace(config.image_data, image=image),
        validation=ValidationConfig(every=5, bins=(packed(tmp_path / "orl.bin"),)),
    )
    with pytest.raises(ValueError, match=r"92x112|112"):
        training_validator(exact)


def test_too_many_images_are_refused(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmargin.protocols.training_validation.MOST_IMAGES", 79)
    with pytest.raises(ValueError, match=r"split validation has 80 images: .* at most 79; hold out fewer identities"):
        training_validator(config)
