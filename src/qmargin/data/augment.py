"""Random changes of training images, as a pure function of (image, generator, config)."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qmargin.data import degrade

Pixels = NDArray[np.uint8]  # (height, width, channels)

LIMITS = {"flip": 1.0, "shift": 100.0, "rotation": 180.0, "scale": 0.5, "brightness": 1.0, "contrast": 1.0}
LIMITS |= dict.fromkeys(degrade.DRAWS, 1.0)


DEGRADATIONS = {
    "crop": degrade.crop,
    "low_resolution": degrade.low_resolution,
    "photometric": degrade.photometric,
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images are changed; each change is drawn uniformly. The defaults are the face recipe: flips.

    Raises:
        ValueError: a value outside its range.
    """

    flip: float = 0.5
    """Probability of a horizontal mirror image, in [0, 1]."""
    shift: float = 0.0
    """Largest shift along each axis, pixels, in [0, 100]."""
    rotation: float = 0.0
    """Largest rotation about the centre either way, degrees, in [0, 180]."""
    scale: float = 0.0
    """Largest change of size either way, share of the size, in [0, 0.5]."""
    brightness: float = 0.0
    """Largest change of all pixels by a factor, share, in [0, 1]."""
    contrast: float = 0.0
    """Largest change of the distance of pixels from their mean, share, in [0, 1]."""
    crop: float = 0.0
    """Probability that all but a rectangle is blacked out, in [0, 1]; AdaFace takes 0.2."""
    low_resolution: float = 0.0
    """Probability that the image is shrunk and enlarged again, in [0, 1]; AdaFace takes 0.2."""
    photometric: float = 0.0
    """Probability that brightness, contrast and saturation change by up to a half, in [0, 1]; AdaFace takes 0.2."""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        for name, high in LIMITS.items():
            value = getattr(self, name)
            if not 0.0 <= value <= high:
                raise ValueError(f"Augmentation.{name} must be in [0, {high:g}], got {value!r}")

    @property
    def moves(self) -> bool:
        """Whether pixels move other than by the flip."""
        return max(self.shift, self.rotation, self.scale) > 0.0

    @property
    def degrades(self) -> bool:
        """Whether quality may be lowered."""
        return max(self.crop, self.low_resolution, self.photometric) > 0.0

    @cached_property
    def flips_only(self) -> bool:
        """Whether nothing but the flip acts: asked for every image."""
        return not (self.moves or self.degrades or max(self.brightness, self.contrast) > 0.0)


def augment(image: Pixels, generator: np.random.Generator, config: Augmentation) -> Pixels:
    """Change an image at random: flip, then shift, rotate and scale in one resampling, then brightness and contrast.

    After that, each with its own probability: crop, low resolution and photometric (see `qmargin.data.degrade`).

        y = brightness * (mean + contrast * (x - mean)),  rounded and clipped to [0, 255]

    Pixels from beyond the border repeat the border. The same state of the generator gives the same image, and exactly
    seven numbers are drawn whatever the config, or 21 where quality may be lowered, so switching one change off leaves
    the others as they were.

    Args:
        image: (height, width, channels) uint8, channels 1 or 3.
        generator: where randomness comes from; nothing else is random.
        config: how far.

    Returns:
        (height, width, channels) uint8, a new array.

    Example:
        >>> image = np.array([[[0], [9]]], dtype=np.uint8)
        >>> augment(image, np.random.default_rng(0), Augmentation(flip=1.0)).tolist()
        [[[9], [0]]]
    """
    return np.array(augment_view(image, generator, config))


def augment_view(image: Pixels, generator: np.random.Generator, config: Augmentation) -> Pixels:
    """`augment` without the last copy: a view of `image` where nothing but the flip acts."""
    draws = generator.random(7)
    result = image[:, ::-1] if draws[0] < config.flip else image
    if config.flips_only:
        return result
    x, y, turn, size, brightness, contrast = (2.0 * draws[1:] - 1.0).tolist()  # each in [-1, 1)
    if config.moves:
        shift = (x * config.shift, y * config.shift)
        result = _move(result, shift, math.radians(turn * config.rotation), 1.0 + size * config.scale)
    if max(config.brightness, config.contrast) > 0.0:
        result = _relight(result, 1.0 + brightness * config.brightness, 1.0 + contrast * config.contrast)
    return _degraded(result, generator, config) if config.degrades else result


def _degraded(image: Pixels, generator: np.random.Generator, config: Augmentation) -> Pixels:
    for name, change in DEGRADATIONS.items():
        chance, *draws = generator.random(1 + degrade.DRAWS[name])
        if chance < getattr(config, name):
            image = change(image, np.array(draws))
    return image


def _move(image: Pixels, shift: tuple[float, float], angle: float, scale: float) -> Pixels:
    """Rotate by `angle` (radians, clockwise) and scale about the centre, then shift (right, down); bilinear."""
    height, width, channels = image.shape
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    reach = 0.5 * (height + width) * (abs(cos - 1.0) + abs(sin)) + (abs(cos) + abs(sin)) * max(map(abs, shift))
    pad = math.ceil(reach) + 1
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    # Pillow asks where each output point (column, row) comes from; both are measured from their pixel's corner.
    column, row = width / 2 + shift[0], height / 2 + shift[1]
    origin_column = width / 2 + pad - cos * column - sin * row
    origin_row = height / 2 + pad + sin * column - cos * row
    source = Image.fromarray(padded[:, :, 0] if channels == 1 else padded)
    moved = source.transform(
        (width, height),
        Image.Transform.AFFINE,
        (cos, sin, origin_column, -sin, cos, origin_row),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved).reshape(height, width, channels)


def _relight(image: Pixels, brightness: float, contrast: float) -> Pixels:
    pixels = image.astype(np.float32)
    mean = pixels.mean()
    changed = np.float32(brightness) * (mean + np.float32(contrast) * (pixels - mean))
    relit: Pixels = np.rint(changed).clip(0, 255).astype(np.uint8)
    return relit
