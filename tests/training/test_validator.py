"""What a validator says before the first step: its figures by name, and that there is something to compute them of."""

from dataclasses import replace
from pathlib import Path

import pytest

from qmargin.data import ManifestFile, read_orl
from qmargin.protocols import training_validator
from qmargin.training import TrainConfig, ValidationConfig


@pytest.fixture
def config(tiny: TrainConfig) -> TrainConfig:
    return replace(tiny, validation=ValidationConfig(every=1))


def listed(config: TrainConfig, path: Path, validation: dict[str, int]) -> TrainConfig:
    """On a CSV file of the ORL faces in which so many images of some test people are the split validation."""
    faces = read_orl()
    link = path.parent / "faces"
    if not link.exists():
        link.symlink_to(faces.root)
    left, rows = dict(validation), ["path,identity,split"]
    for image, name, split in faces.rows():
        if left.get(name, 0) > 0:
            left[name] -= 1
            rows.append(f"faces/{image},{name},validation")
        elif name not in validation:
            rows.append(f"faces/{image},{name},{split}")
    path.write_text("\n".join(rows) + "\n")
    return replace(config, data=replace(config.image_data, source=ManifestFile(path=path)))


@pytest.mark.parametrize(
    ("people", "names"),
    [
        ({"s38": 2, "s39": 2}, ("identities.eer",)),  # 4 impostor pairs: 10 of them are no FAR
        ({"s38": 10, "s39": 10}, ("identities.eer", "identities.tar@1e-01")),  # 100
        ({f"s{number}": 10 for number in range(31, 39)}, ("identities.eer", "identities.tar@1e-02")),  # 2,800
    ],
)
def test_images_of_a_validation_split_of_their_own_are_validated_on(
    config: TrainConfig, tmp_path: Path, people: dict[str, int], names: tuple[str, ...]
) -> None:
    validate = training_validator(listed(config, tmp_path / "m.csv", people))
    assert validate.names == names
    assert tuple(validate(config.backbone.build())) == names


def test_identities_without_pairs_are_refused_before_the_first_step(config: TrainConfig, tmp_path: Path) -> None:
    for people in ({"s38": 1, "s39": 1}, {"s38": 10}):
        with pytest.raises(
            ValueError,
            match=r"split validation has \d+ images of [12] identities, and validation needs genuine and impostor "
            r"pairs: two identities, and two images of one of them; give others that split",
        ):
            training_validator(listed(config, tmp_path / "m.csv", people))
    one = replace(config, data=replace(config.image_data, validation_identities=1))
    with pytest.raises(ValueError, match=r"of 1 identities, .* hold out more \(data.validation_identities\) or others"):
        training_validator(one)


def test_a_large_validation_split_and_images_without_one_are_refused_with_the_way_out(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"nothing to validate on: .* train on a manifest with a split validation"):
        training_validator(listed(config, tmp_path / "m.csv", {}))
    monkeypatch.setattr("qmargin.protocols.training_validation.MOST_IMAGES", 19)
    with pytest.raises(ValueError, match=r"has 20 images: .* at most 19; give fewer of them that split"):
        training_validator(listed(config, tmp_path / "m.csv", {"s38": 10, "s39": 10}))
