import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qmargin.data import Augmentation, augment
from qmargin.data.degrade import DRAWS, FILTERS, LUMA, Pixels, crop, low_resolution, photometric

UNIT = st.floats(0, 1, exclude_max=True)


def picture(height: int = 20, width: int = 16, channels: int = 3, seed: int = 0) -> Pixels:
    image: Pixels = np.random.default_rng(seed).integers(1, 256, (height, width, channels), dtype=np.uint8)
    return image


@given(draws=st.tuples(UNIT, UNIT, UNIT, UNIT), height=st.integers(1, 30), width=st.integers(1, 30))
def test_a_crop_is_a_rectangle_of_the_image_on_black(draws: tuple[float, ...], height: int, width: int) -> None:
    image = picture(height, width)
    result = crop(image, np.array(draws))
    kept = np.any(result, axis=2)
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    assert kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert kept.sum() == len(rows) * len(columns)
    np.testing.assert_array_equal(result[kept], image[kept])


def test_crops_have_the_areas_shapes_and_places_that_were_asked_for() -> None:
    image = picture(200, 200)
    draws = np.random.default_rng(0).random((2000, 4))
    boxes = []
    for row in draws:
        kept = np.any(crop(image, row), axis=2)
        rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
        boxes.append((len(rows), len(columns), rows[0], columns[0]))
    rows, columns, top, left = np.array(boxes, float).T
    free = (rows < 200) & (columns < 200)
    area = rows * columns / 40_000
    np.testing.assert_allclose(area[free], 0.2 + 0.8 * draws[free, 0], atol=0.02)
    np.testing.assert_allclose((columns / rows)[free], (4 / 3) ** (2 * draws[free, 1] - 1), rtol=0.04)
    assert left.min() == 0
    assert (left + columns).max() == 200
    assert top.min() == 0
    assert (top + rows).max() == 200


def test_low_resolution_is_two_resizes() -> None:
    image = picture()
    for down in range(5):
        for up in range(5):
            result = low_resolution(image, np.array([0.5, (down + 0.5) / 5, (up + 0.5) / 5]))
            small = Image.fromarray(image).resize((9, 12), FILTERS[down])  # 0.6 of 16 and 20
            np.testing.assert_array_equal(result, np.asarray(small.resize((16, 20), FILTERS[up])))


def test_low_resolution_loses_detail_and_serves_small_and_grey_images() -> None:
    image = picture(40, 40)
    blurred = low_resolution(image, np.array([0.0, 0.25, 0.5]))
    assert blurred.std() < 0.4 * image.std()
    assert low_resolution(picture(1, 2, 1), np.array([0.0, 0.9, 0.9])).shape == (1, 2, 1)


def test_photometric_changes_are_those_of_the_formulas() -> None:
    image = picture()
    x = image.astype(np.float64)
    one = np.array([0.5, 0.5, 0.5, 0.0])  # factors of 1
    np.testing.assert_array_equal(photometric(image, one), image)
    for place, expected in enumerate(
        [
            0.5 * x,
            (x @ LUMA).mean() + 0.5 * (x - (x @ LUMA).mean()),
            (x @ LUMA)[..., None] + 0.5 * (x - (x @ LUMA)[..., None]),
        ]
    ):
        draws = one.copy()
        draws[place] = 0.0
        np.testing.assert_allclose(photometric(image, draws), expected, atol=0.51)
    grey = picture(channels=1)
    np.testing.assert_array_equal(photometric(grey, np.array([0.5, 0.5, 0.0, 0.9])), grey)


def test_the_order_of_photometric_changes_matters() -> None:
    image = picture()
    results = [photometric(image, np.array([0.9, 0.1, 0.8, (order + 0.5) / 6])).tobytes() for order in range(6)]
    assert len(set(results)) > 1


@given(draws=st.tuples(UNIT, UNIT, UNIT, UNIT))
def test_photometric_results_stay_in_range(draws: tuple[float, ...]) -> None:
    result = photometric(np.array([[[0, 255, 128], [255, 255, 255]]], np.uint8), np.array(draws))
    assert result.dtype == np.uint8  # clipped, not wrapped: white stays no darker than black
    assert (result[0, 1] >= result[0, 0, 0]).all()


@pytest.mark.parametrize("name", list(DRAWS))
def test_each_is_applied_with_its_own_probability(name: str) -> None:
    image = picture()
    config = Augmentation(**{"flip": 0.0, name: 0.3})
    changed = [not np.array_equal(augment(image, np.random.default_rng(s), config), image) for s in range(500)]
    assert 110 < sum(changed) < 190


def test_switching_one_off_leaves_the_others_as_they_were() -> None:
    image = picture()
    for seed in range(40):
        both = augment(image, np.random.default_rng(seed), Augmentation(crop=0.5, photometric=0.5))
        alone = augment(image, np.random.default_rng(seed), Augmentation(crop=0.5))
        draws = np.random.default_rng(seed).random(21)
        cropped, lit = draws[7] < 0.5, draws[16] < 0.5
        flipped = image[:, ::-1] if draws[0] < 0.5 else image
        expected = crop(flipped, draws[8:12]) if cropped else flipped
        np.testing.assert_array_equal(alone, expected)
        np.testing.assert_array_equal(both, photometric(expected, draws[17:]) if lit else expected)


def test_twenty_one_numbers_are_drawn() -> None:
    for config in (Augmentation(crop=1.0), Augmentation(low_resolution=0.1, photometric=1.0)):
        generator, expected = np.random.default_rng(0), np.random.default_rng(0)
        augment(picture(), generator, config)
        expected.random(21)
        assert generator.random() == expected.random()
