"""What low-quality faces look like: occluded, of low resolution, badly lit. The three augmentations of AdaFace.

Each is a pure function of an image and numbers in [0, 1); `qmargin.data.augment` draws them.

Reference: Kim, Jain, Liu, "AdaFace: Quality adaptive margin for face recognition", CVPR 2022, section 4.1.
"""

import math
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (height, width, channels)
Floats = NDArray[np.float64]

LEAST_AREA = 0.2  # of a crop, share of the image
LEAST_SIDE = 0.2  # of the small image, share of the side
ASPECT = 4.0 / 3.0  # width to height of a crop, at most; at least its inverse
JITTER = 0.5  # of brightness, contrast and saturation: factors in [1 - JITTER, 1 + JITTER)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601
FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
ORDERS = tuple(permutations(range(3)))
DRAWS = {"crop": 4, "low_resolution": 3, "photometric": 4}  # numbers that each takes


def crop(image: Pixels, draws: Floats) -> Pixels:
    """Keep a rectangle where it is and black out the rest.

    Args:
        image: (height, width, channels) uint8.
        draws: (4,) in [0, 1): area from 0.2 to 1 of the image, aspect ratio from 3/4 to 4/3, and place, x and y. A side
            that would be longer than the image's is as long.

    Returns:
        (height, width, channels) uint8, a new array.

    Example:
        >>> crop(np.full((4, 4, 1), 9, np.uint8), np.array([0.0, 0.5, 0.0, 0.99]))[:, :, 0].tolist()
        [[0, 0, 0, 0], [0, 0, 0, 0], [9, 9, 0, 0], [9, 9, 0, 0]]
    """
    height, width, _ = image.shape
    area = (LEAST_AREA + (1.0 - LEAST_AREA) * draws[0]) * height * width
    ratio = math.exp((2.0 * draws[1] - 1.0) * math.log(ASPECT))
    rows = min(max(round(math.sqrt(area / ratio)), 1), height)
    columns = min(max(round(math.sqrt(area * ratio)), 1), width)
    left, top = int(draws[2] * (width - columns + 1)), int(draws[3] * (height - rows + 1))
    kept = np.zeros_like(image)
    kept[top : top + rows, left : left + columns] = image[top : top + rows, left : left + columns]
    return kept


def low_resolution(image: Pixels, draws: Floats) -> Pixels:
    """Shrink an image and enlarge it again.

    Args:
        image: (height, width, channels) uint8, channels 1 or 3.
        draws: (3,) in [0, 1): sides from 0.2 to 1 of the image's, the filter down and the filter up, of nearest, box,
            bilinear, bicubic and Lanczos.

    Returns:
        (height, width, channels) uint8, a new array.

    Example:
        >>> stripes = np.array([[[0], [200], [0], [200]]], np.uint8)
        >>> low_resolution(stripes, np.array([0.375, 0.3, 0.0]))[0, :, 0].tolist()
        [100, 100, 100, 100]
    """
    height, width, channels = image.shape
    share = LEAST_SIDE + (1.0 - LEAST_SIDE) * draws[0]
    small = (max(int(share * width), 1), max(int(share * height), 1))
    down, up = (FILTERS[int(draw * len(FILTERS))] for draw in draws[1:])
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else np.ascontiguousarray(image))
    return np.array(picture.resize(small, down).resize((width, height), up)).reshape(image.shape)


def photometric(image: Pixels, draws: Floats) -> Pixels:
    """Change brightness, contrast and saturation, each by a factor in [0.5, 1.5), in a random order.

        brightness: f x,   contrast: m + f (x - m), m the mean luminance,   saturation: l + f (x - l), l the luminance

    clipped to [0, 255] after each, rounded at the end.

    Args:
        image: (height, width, channels) uint8, channels 1 or 3; saturation does nothing to one channel.
        draws: (4,) in [0, 1): the three factors and the order.

    Returns:
        (height, width, channels) uint8, a new array.

    Example:
        >>> photometric(np.array([[[100, 100, 100]]], np.uint8), np.array([0.75, 0.5, 0.5, 0.0])).tolist()
        [[[125, 125, 125]]]
    """
    factors = (1.0 + JITTER * (2.0 * draws[:3] - 1.0)).astype(np.float32)
    pixels = image.astype(np.float32)
    for change in ORDERS[int(draws[3] * len(ORDERS))]:
        grey = pixels @ LUMA if image.shape[2] == 3 else pixels[:, :, 0]  # (height, width)
        centre = (np.float32(0.0), grey.mean(), grey[:, :, np.newaxis])[change]
        pixels = (centre + factors[change] * (pixels - centre)).clip(0, 255)  # without it the order would not matter
    lit: Pixels = np.rint(pixels).astype(np.uint8)
    return lit
