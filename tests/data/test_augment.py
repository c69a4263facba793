import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.data import Augmentation, augment
from qmargin.data.augment import LIMITS, Pixels, _move

ALL = Augmentation(flip=0.5, shift=3.0, rotation=20.0, scale=0.2, brightness=0.3, contrast=0.3)


def picture(height: int = 9, width: int = 7, channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 40, width: int = 40) -> Pixels:
    rows, columns = np.mgrid[:height, :width] / 10
    waves = 127 + 100 * np.sin(rows) * np.cos(0.7 * columns)  # (height, width)
    return np.asarray(waves[:, :, None], dtype=np.uint8)


@given(
    seed=st.integers(0, 2**32),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    settings=st.fixed_dictionaries({name: st.floats(0, min(high, 20)) for name, high in LIMITS.items()}),
)
def test_the_result_is_a_new_image_of_the_same_kind_and_depends_on_the_arguments_only(
    seed: int, channels: int, height: int, width: int, settings: dict[str, float]
) -> None:
    image = picture(height, width, channels)
    before = image.copy()
    config = Augmentation(**settings)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    first = augment(image, np.random.default_rng(seed), config)
    np.random.seed(2)  # noqa: NPY002
    second = augment(image, np.random.default_rng(seed), config)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert first.flags.writeable
    assert not np.shares_memory(first, image)


def test_nothing_changes_where_nothing_is_asked_for() -> None:
    image = picture()
    for seed in range(20):
        assert np.array_equal(augment(image, np.random.default_rng(seed), Augmentation(flip=0.0)), image)


def test_the_default_is_a_flip_half_of_the_time() -> None:
    image = picture()
    results = [augment(image, np.random.default_rng(seed), Augmentation()) for seed in range(400)]
    flipped = sum(np.array_equal(result, image[:, ::-1]) for result in results)
    assert flipped + sum(np.array_equal(result, image) for result in results) == 400
    assert 160 < flipped < 240


def test_seven_numbers_are_drawn_whatever_the_config() -> None:
    states = []
    for config in (Augmentation(flip=0.0), Augmentation(), ALL):
        generator = np.random.default_rng(0)
        augment(picture(), generator, config)
        states.append(generator.random())
    expected = np.random.default_rng(0)
    expected.random(7)
    assert states == [expected.random()] * 3


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_each_setting_alone_changes_the_image(name: str) -> None:
    image = picture(20, 20)
    config = Augmentation(**{"flip": 0.0, name: min(LIMITS[name], 10.0)})
    assert any(not np.array_equal(augment(image, np.random.default_rng(s), config), image) for s in range(3))


def test_a_shift_moves_right_and_down_and_repeats_the_border() -> None:
    image = picture(9, 7)
    moved = _move(image, (2, 3), 0.0, 1.0)
    np.testing.assert_array_equal(moved[3:, 2:], image[:-3, :-2])
    np.testing.assert_array_equal(moved[:3, 2:], np.repeat(image[:1, :-2], 3, axis=0))
    np.testing.assert_array_equal(moved[3:, :2], np.repeat(image[:-3, :1], 2, axis=1))


def test_between_pixels_the_image_is_linear() -> None:
    image = picture(9, 7)
    between = _move(image, (0.5, 0.0), 0.0, 1.0).astype(float)
    np.testing.assert_allclose(between[:, 1:], (image[:, 1:].astype(float) + image[:, :-1]) / 2, atol=1)


@pytest.mark.parametrize("shape", [(9, 7, 1), (8, 6, 3)])
def test_half_a_turn_is_both_flips(shape: tuple[int, int, int]) -> None:
    image = picture(*shape)
    np.testing.assert_array_equal(_move(image, (0, 0), math.pi, 1.0), image[::-1, ::-1])


def test_a_positive_angle_turns_clockwise() -> None:
    image = picture(8, 8)
    np.testing.assert_array_equal(_move(image, (0, 0), math.pi / 2, 1.0), np.rot90(image, -1))


def test_scaling_is_about_the_centre() -> None:
    image = np.zeros((41, 41, 1), dtype=np.uint8)
    image[15:26, 15:26] = 255  # 11 wide
    larger = _move(image, (0, 0), 0.0, 1.5)[:, :, 0] > 127
    rows, columns = np.nonzero(larger)
    assert rows.min() + rows.max() == columns.min() + columns.max() == 40
    assert np.ptp(rows) + 1 == pytest.approx(16.5, abs=1)


def test_sizes_are_drawn_evenly_both_ways() -> None:
    image = np.zeros((41, 41, 1), dtype=np.uint8)
    image[10:31, 10:31] = 255
    config = Augmentation(flip=0.0, scale=0.3)
    results = [augment(image, np.random.default_rng(seed), config) for seed in range(300)]
    scales = [math.sqrt(np.count_nonzero(result > 127)) / 21 for result in results]
    assert min(scales) == pytest.approx(0.7, abs=0.05)
    assert max(scales) == pytest.approx(1.3, abs=0.05)
    assert np.mean(scales) == pytest.approx(1.0, abs=0.05)


def test_moving_there_and_back_returns_a_smooth_image() -> None:
    image = smooth()
    there = _move(image, (0.0, 0.0), 0.2, 1.1)
    back = _move(there, (0.0, 0.0), -0.2, 1 / 1.1).astype(int)
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(back[inside] - image[inside]).max() < 6


@pytest.mark.parametrize("arguments", [((100, -100), 0.0, 1.0), ((0, 0), 3.0, 0.5), ((90, 90), 1.0, 1.5)])
def test_no_foreign_colour_enters(arguments: tuple[tuple[float, float], float, float]) -> None:
    image = np.full((12, 9, 3), 200, dtype=np.uint8)
    assert np.array_equal(_move(image, *arguments), image)


def test_brightness_scales_and_contrast_keeps_the_mean() -> None:
    image = np.random.default_rng(0).integers(100, 150, (20, 20, 3), dtype=np.uint8)
    factors = []
    for seed in range(10):
        dimmed = augment(image, np.random.default_rng(seed), Augmentation(flip=0.0, brightness=0.5)).astype(float)
        factor = dimmed.mean() / image.mean()
        assert 0.5 <= factor <= 1.5
        np.testing.assert_allclose(dimmed, image * factor, atol=1)
        changed = augment(image, np.random.default_rng(seed), Augmentation(flip=0.0, contrast=0.5)).astype(float)
        assert changed.mean() == pytest.approx(image.mean(), abs=0.2)
        assert 0.45 <= changed.std() / image.std() <= 1.55
        factors.append((factor, changed.std() / image.std()))
    assert abs(np.corrcoef(np.transpose(factors))[0, 1]) < 0.9  # drawn each for itself


def test_bright_pixels_saturate() -> None:
    image = np.full((4, 4, 1), 250, dtype=np.uint8)
    results = [augment(image, np.random.default_rng(s), Augmentation(flip=0, brightness=0.5)) for s in range(20)]
    assert max(result.max() for result in results) == 255
    assert min(result.min() for result in results) >= 124


@pytest.mark.parametrize("name", list(LIMITS))
@pytest.mark.parametrize("value", [-0.01, 180.1, float("nan")])
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"Augmentation.{name} must be in \[0, {LIMITS[name]:g}\], got {value}"):
        Augmentation(**{name: value})
