from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qmargin.data import ImageFormat, SyntheticIdentities, SyntheticSamples, read_manifest, write_manifest
from qmargin.data.synthetic import long_tail

IMAGE = ImageFormat(height=16, width=20, channels=1)
SMALL = SyntheticIdentities(identities=40, samples=200, test_identities=6, test_samples=3)


@pytest.fixture
def samples() -> SyntheticSamples:
    return SMALL.read()


def test_every_identity_has_an_image_and_the_first_have_most() -> None:
    for identities, total in ((40, 200), (1000, 1000), (7, 5000)):
        counts = long_tail(identities, total)
        assert counts.sum() == total
        assert counts.min() >= 1
        assert len(counts) == identities
    assert counts[0] == pytest.approx(3 * counts[2], rel=0.02)


def test_rows_labels_and_splits_agree(samples: SyntheticSamples) -> None:
    rows = list(samples.rows())
    assert len(rows) == len(samples) == 218
    assert len({path for path, _, _ in rows}) == len(rows)
    assert [samples.path(index) for index in range(len(samples))] == [path for path, _, _ in rows]
    assert Counter(split for _, _, split in rows) == {"train": 200, "test": 18}
    train, test = samples.subset("train"), samples.subset("test")
    assert (train.num_classes, test.num_classes) == (40, 6)
    for part in (train, test):
        names = [name for _, name, _ in part.rows()]
        assert len(set(zip(names, part.labels.tolist(), strict=True))) == part.num_classes
        assert set(part.labels.tolist()) == set(range(part.num_classes))
    assert not {name for _, name, _ in train.rows()} & {name for _, name, _ in test.rows()}


def test_the_written_table_is_that_of_the_rows(samples: SyntheticSamples, tmp_path: Path) -> None:
    write_manifest(samples, tmp_path / "manifest.csv")
    header, *lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert header == "path,identity,split"
    assert lines == [",".join(row) for row in samples.rows()]
    with pytest.raises(ValueError, match=r"218 of the 218 images listed"):
        read_manifest(tmp_path / "manifest.csv")


def test_pixels_depend_on_seed_identity_and_number_alone(samples: SyntheticSamples) -> None:
    picture = samples.pixels(205, IMAGE)
    assert picture.shape == (16, 20, 1)
    assert picture.dtype == np.uint8
    assert np.array_equal(SMALL.read().subset("test").pixels(5, IMAGE), picture)
    assert not np.array_equal(samples.pixels(206, IMAGE), picture)
    other = SyntheticIdentities(identities=40, samples=200, test_identities=6, test_samples=3, seed=1).read()
    assert not np.array_equal(other.pixels(205, IMAGE), picture)
    colour = samples.pixels(205, ImageFormat(height=16, width=20, channels=3))
    assert np.array_equal(colour, np.repeat(picture, 3, axis=2))


def test_images_of_an_identity_are_alike_and_of_two_are_not() -> None:
    source = SyntheticIdentities(identities=2, samples=2, test_identities=40, test_samples=4)
    test = source.read().subset("test")
    pixels = np.stack([test.pixels(index, IMAGE).ravel() for index in range(len(test))]).astype(np.float64)
    alike = np.corrcoef(pixels)
    same = test.labels[:, None] == test.labels
    off_diagonal = ~np.eye(len(test), dtype=bool)
    assert alike[same & off_diagonal].mean() > 0.6
    assert abs(alike[~same].mean()) < 0.1


def test_without_variation_the_code_is_what_all_images_share() -> None:
    """The first image must not draw its change from the same numbers as the code: it would be the code, larger."""
    still, moved = (
        SyntheticIdentities(identities=2, samples=2, test_identities=2, variation=variation).read().subset("test")
        for variation in (0.0, 1.0)
    )
    first, second = (samples.pixels(0, IMAGE).ravel().astype(np.float64) for samples in (still, moved))
    assert np.corrcoef(first, second)[0, 1] < 0.95


def test_held_out_identities_leave_training_whole(samples: SyntheticSamples) -> None:
    held = samples.hold_out(5, seed=0)
    assert held.subset("validation").num_classes == 5
    assert held.subset("train").num_classes == 35
    assert len(held.subset("train")) + len(held.subset("validation")) == 200
    assert held.digest != samples.digest == SMALL.read().digest
    with pytest.raises(ValueError, match=r"validation identities of its own"):
        held.hold_out(2, seed=0)
    with pytest.raises(ValueError, match=r"holding out 39 of 40 train identities leaves fewer than 2"):
        samples.hold_out(39, seed=0)


@pytest.mark.parametrize("split", ["validation", "nonsense"])
def test_a_split_without_samples_is_refused(samples: SyntheticSamples, split: str) -> None:
    with pytest.raises(ValueError, match=rf"no sample is in the split '{split}'; .* train 200, validation 0, test 18"):
        samples.subset(split)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"identities": 1}, r"SyntheticIdentities.identities must be an integer >= 2, got 1"),
        ({"samples": 39}, r"SyntheticIdentities.samples must be an integer >= 40, got 39"),
        ({"test_samples": 0}, r"SyntheticIdentities.test_samples must be an integer >= 1, got 0"),
        ({"seed": -1}, r"SyntheticIdentities.seed must be an integer >= 0, got -1"),
        ({"variation": float("nan")}, r"SyntheticIdentities.variation must be a finite number >= 0, got nan"),
    ],
)
def test_a_source_refuses_what_is_no_set(change: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        SyntheticIdentities(**{"identities": 40, "samples": 200, **change})


def test_a_million_identities_take_a_few_bytes_each() -> None:
    samples = SyntheticIdentities().read().subset("train")
    held = sum(column.nbytes for column in (samples.identity, samples.number, samples.labels, samples.split))
    assert (samples.num_classes, len(samples)) == (1_000_000, 2_000_000)
    assert held < 35e6
