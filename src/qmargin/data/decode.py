"""From a file to an array of pixels, and from pixels to the numbers a backbone takes. Formats are never guessed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from simplejpeg import decode_jpeg, decode_jpeg_header
from torch import Tensor

from qmargin.data._checks import check_counts

Pixels = NDArray[np.uint8]
Fit = Literal["exact", "resize"]

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")  # PPM stands for PBM and PGM too
MAX_PIXELS = 8192 * 8192  # a larger image is an attack or a mistake
MODES = {1: "L", 3: "RGB"}
JPEG_START = b"\xff\xd8\xff"
JPEG_COLOURS = {1: ("Gray",), 3: ("Gray", "YCbCr")}  # of files whose pixels both decoders make the same
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# What Pillow raises for damaged files; the last two for sizes far beyond MAX_PIXELS, before we see them.
REASONS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image file that lies inside another file: its bytes, and what errors call it."""

    content: memoryview | bytes
    name: str

    def __str__(self) -> str:
        return self.name

    def open(self, mode: Literal["rb"] = "rb") -> BytesIO:
        """A readable file of the bytes, as `Path.open` gives it."""
        assert mode == "rb", mode
        return BytesIO(self.content)


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """What every image is decoded to.

    Example:
        >>> ImageFormat(height=56, width=46, channels=1, fit="resize").shape
        (1, 56, 46)
    """

    height: int = 112
    """Height, pixels."""
    width: int = 112
    """Width, pixels."""
    channels: int = 3
    """3 is RGB, 1 is luminance."""
    fit: Fit = "exact"
    """exact refuses images of another size; resize scales both sides to it, whatever the aspect ratio."""

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        check_counts("ImageFormat", 1, height=self.height, width=self.width)
        if self.channels not in MODES:
            raise ValueError(f"ImageFormat.channels must be 3 (RGB) or 1 (luminance), got {self.channels!r}")
        if self.fit not in ("exact", "resize"):
            raise ValueError(f"ImageFormat.fit must be 'exact' or 'resize', got {self.fit!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a decoded image."""
        return (self.channels, self.height, self.width)

    def decode(self, path: Path | EncodedImage) -> NDArray[np.uint8]:
        """`decode_image` with these settings; (height, width, channels)."""
        return decode_image(path, self.height, self.width, self.channels, self.fit)


def decode_image(path: Path | EncodedImage, height: int, width: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Decode an image file to 8-bit pixels.

    EXIF is ignored, its orientation too; transparency is dropped; of an animation the first frame is read. Resizing is
    Pillow's bilinear one, which averages when it shrinks.

    Args:
        path: a BMP, JPEG, PNG, PBM/PGM/PPM or WebP file, or the bytes of one; its content decides, not its extension.
        height: of the result, pixels.
        width: of the result, pixels.
        channels: 3 for RGB, 1 for luminance (ITU-R 601).
        fit: "exact": the file must have that size; "resize": both sides are scaled, the aspect ratio is not kept.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ValueError: the file is missing, not such an image, truncated, not 8 bits a channel, larger than 67 million
            pixels, or of another size while `fit` is "exact"; the message names file and reason.

    Example:
        >>> from qmargin.data import read_orl
        >>> faces = read_orl()
        >>> decode_image(faces.root / faces.paths[0], height=56, width=46, channels=1, fit="resize").shape
        (56, 46, 1)

    Sibling: `normalise`, the step from here to a backbone.
    """
    if channels not in MODES or fit not in ("exact", "resize"):
        raise ValueError(f"channels must be 3 or 1 and fit 'exact' or 'resize', got {channels!r} and {fit!r}")
    fast = _fast_jpeg(path, height, width, channels, fit)
    if fast is not None:
        return fast
    with _opened(path) as image:
        if fit == "exact" and (image.height, image.width) != (height, width):
            raise ValueError(
                f"it has height {image.height} and width {image.width}, not {height} and {width}; crop it to that "
                'size, or set fit="resize"'
            )
        plain = image.convert("RGBA") if image.mode in ("P", "PA") else image  # a palette may hold transparency
        return _fitted(plain.convert(MODES[channels]), height, width, channels)


def _fast_jpeg(path: Path | EncodedImage, height: int, width: int, channels: int, fit: Fit) -> Pixels | None:
    """The same pixels sooner than by Pillow, from a JPEG file without any fault; None for all others."""
    content = path.content if isinstance(path, EncodedImage) else _whole(path)
    if content[:3] != JPEG_START:
        return None
    try:
        rows, columns, colours, _ = decode_jpeg_header(content)
        whole = rows * columns <= MAX_PIXELS and (fit == "resize" or (rows, columns) == (height, width))
        if not whole or colours not in JPEG_COLOURS[channels]:
            return None
        pixels = decode_jpeg(content, "RGB" if channels == 3 else "GRAY")
    except ValueError:  # whatever is odd about it: Pillow decides whether it is an image
        return None
    if pixels.shape[:2] == (height, width):
        return np.asarray(pixels).reshape(height, width, channels)
    return _fitted(Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]), height, width, channels)


def _whole(path: Path) -> bytes:
    """The bytes of a file, in fewer calls than a file object makes; none where it cannot be read: Pillow names why."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        size = os.fstat(file).st_size
        content = os.read(file, size)
        return content if len(content) == size else b""
    except OSError:  # a folder, or the disk fails
        return b""
    finally:
        os.close(file)


def _fitted(image: Image.Image, height: int, width: int, channels: int) -> Pixels:
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image).reshape(height, width, channels)


def decode_rgb(path: Path | EncodedImage) -> Image.Image:
    """Decode an image file to RGB at its own size, as `decode_image` does otherwise: for what crops it afterwards.

    Raises:
        ValueError: as `decode_image`.
    """
    with _opened(path) as image:
        return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")


def single_image(path: Path | EncodedImage) -> str:
    """The format of an image file, one of `FORMATS`, that holds one image of 8 bits a channel; it is not decoded.

    Raises:
        ValueError: as `decode_image`, or an animation.
    """
    with _opened(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ValueError(f"it holds {frames} images, as an animation or a series does; save the one that is meant")
        assert image.format is not None, "it was read from a file"
        return image.format


def normalise(images: Tensor) -> Tensor:
    """Map 8-bit pixels to [-1, 1], as the face recipe does, on whatever device they are: `(x / 255 - 0.5) / 0.5`.

    Args:
        images: (batch, channels, height, width) uint8.

    Returns:
        (batch, channels, height, width) float32.

    Raises:
        ValueError: another dtype or number of dimensions.

    Example:
        >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        tensor([[[[-1.,  1.]]]])
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            "normalise takes uint8 pixels of shape (batch, channels, height, width), got "
            f"{images.dtype} {tuple(images.shape)}; are they normalised already?"
        )
    return images.float().div_(255.0).sub_(0.5).div_(0.5)


@contextmanager
def _opened(path: Path | EncodedImage) -> Iterator[Image.Image]:
    """The image, not decoded yet, its size and mode checked; every fault names the file."""
    with _naming(path), path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
        deep = _clipped(image) if image.mode in EIGHT_BIT else image.mode
        if deep:
            raise ValueError(f"its pixels are {deep}, not 8 bits a channel; convert it first")
        yield image


def _clipped(image: ImageFile) -> str | None:
    """What the pixels of a file are that Pillow would make 8 bits without a word, its mode being RGB or RGBA."""
    for tile in image.tile if image.format in ("PNG", "PPM") else ():
        kind = tile[3]  # what Pillow's decoder is told: a PNG's kind of pixels, a PPM's kind and largest value
        if isinstance(kind, str) and kind.endswith(";16B"):
            return kind
        if isinstance(kind, tuple) and isinstance(kind[-1], int) and kind[-1] > 255:
            return f"{kind[0]} up to {kind[-1]:,}"
    return None


@contextmanager
def _naming(path: Path | EncodedImage) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"cannot decode {path}: there is no such file") from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            empty = not file.read(1)
        reason = "it is empty, 0 bytes" if empty else f"its content is none of {', '.join(FORMATS)}"
        raise ValueError(f"cannot decode {path}: {reason}") from error
    except REASONS as error:
        raise ValueError(f"cannot decode {path}: {error}") from error
