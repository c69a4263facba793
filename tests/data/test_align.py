"""Landmarks to the template: the transform against Umeyama's algorithm, the crop against known pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from qmargin.data import FACE_TEMPLATE, align_face, similarity_transform

Floats = NDArray[np.float64]
LEVEL = 1.0  # of grey: Pillow drops the fraction, and the least rounding error makes 99.999 of 100


def umeyama(source: Floats, target: Floats) -> Floats:
    """The algorithm of the paper, by singular values, as scikit-image writes it."""
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    centred, goals = source - mean_source, target - mean_target
    covariance = goals.T @ centred / len(source)
    signs = np.array([1.0, 1.0 if np.linalg.det(covariance) >= 0 else -1.0])
    left, singular, right = np.linalg.svd(covariance)
    rotation = left @ np.diag(signs) @ right
    scale = (singular @ signs) / centred.var(axis=0).sum()
    return np.hstack([scale * rotation, (mean_target - scale * rotation @ mean_source)[:, np.newaxis]])


@given(st.integers(0, 2**32 - 1))
def test_the_transform_is_umeyamas(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.normal(60, 30, size=(5, 2))
    assert_allclose(similarity_transform(points, FACE_TEMPLATE), umeyama(points, FACE_TEMPLATE), atol=1e-8)


@given(st.floats(-np.pi, np.pi), st.floats(0.1, 10), st.floats(-50, 50), st.floats(-50, 50))
def test_a_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[a, -b, x], [b, a, y]])
    points = FACE_TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
    assert_allclose(similarity_transform(FACE_TEMPLATE, points), matrix, atol=1e-9)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    matrix = similarity_transform(FACE_TEMPLATE * (-1, 1), FACE_TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((5, 2)), FACE_TEMPLATE, r"landmarks must be finite and not all one point"),
        (np.full((5, 2), np.nan), FACE_TEMPLATE, r"landmarks must be finite"),
        (FACE_TEMPLATE[:4], FACE_TEMPLATE, r"of one shape \(points >= 2, 2\), got \(4, 2\) and \(5, 2\)"),
        (FACE_TEMPLATE[:1], FACE_TEMPLATE[:1], r"of one shape \(points >= 2, 2\), got \(1, 2\)"),
        (np.zeros((5, 3)), np.zeros((5, 3)), r"got \(5, 3\)"),
    ],
)
def test_points_that_have_no_transform_are_refused(source: Floats, target: Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        similarity_transform(source, target)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def test_landmarks_on_the_template_leave_a_crop_as_it_is() -> None:
    pixels = picture(112, 112)
    assert_allclose(align_face(Image.fromarray(pixels), FACE_TEMPLATE), pixels.astype(float), atol=LEVEL)


def test_a_shift_by_whole_pixels_moves_whole_pixels_and_the_outside_is_black() -> None:
    pixels = picture(130, 150)
    moved = align_face(Image.fromarray(pixels), FACE_TEMPLATE + np.array([20, -10]))
    assert_allclose(moved[10:], pixels[:102, 20:132].astype(float), atol=LEVEL)
    assert not moved[:10].any()


def test_a_half_turn_turns_the_pixels_about_their_centres() -> None:
    pixels = picture(112, 112)
    turned = align_face(Image.fromarray(pixels), 111 - FACE_TEMPLATE)
    assert_allclose(turned, pixels[::-1, ::-1].astype(float), atol=LEVEL)


def test_twice_the_size_is_the_bilinear_mean_of_four_pixels() -> None:
    """Pixel (x, y) of the crop has its centre at (2 x + 1/2, 2 y + 1/2): between four pixels, in equal parts."""
    pixels = picture(224, 224)
    crop = align_face(Image.fromarray(pixels), 2 * FACE_TEMPLATE + 0.5)
    mean = pixels.reshape(112, 2, 112, 2, 3).astype(float).mean(axis=(1, 3))
    assert_allclose(crop, mean, atol=LEVEL)


def test_landmarks_of_no_face_are_refused() -> None:
    with pytest.raises(ValueError, match=r"landmarks must be finite and not all one point"):
        align_face(Image.new("RGB", (9, 9)), np.ones((5, 2)))
