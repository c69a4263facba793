import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qmargin.data import ImageFormat, decode_image, normalise
from qmargin.data import decode as module
from qmargin.data.decode import MAX_PIXELS, Fit, single_image

Save = Callable[..., Path]


def pixels_of(path: Path, mode: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.array(image.convert(mode))


def write_png(path: Path, side: int, *chunks: bytes, depth: int = 8, colour: int = 0) -> Path:
    """Write a PNG of side x side pixels, grey ones, by its header; `chunks` (type and data) are what follows."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, *chunks)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize("extension", ["png", "bmp", "ppm", "jpg", "webp"])
def test_pixels_are_those_of_the_file(save_image: Save, extension: str) -> None:
    path = save_image(f"1.{extension}", height=8, width=6)
    picture = decode_image(path, 8, 6, 3, "exact")
    assert picture.shape == (8, 6, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    np.testing.assert_array_equal(picture, pixels_of(path, "RGB"))


def test_one_channel_is_luminance_and_three_of_a_grey_file_are_equal(save_image: Save) -> None:
    colour, grey = save_image("1.png"), save_image("2.pgm", mode="L")
    rgb = decode_image(colour, 8, 6, 3, "exact").astype(float)
    luminance = decode_image(colour, 8, 6, 1, "exact")
    assert luminance.shape == (8, 6, 1)
    np.testing.assert_allclose(luminance[:, :, 0], rgb @ [0.299, 0.587, 0.114], atol=1)
    three = decode_image(grey, 8, 6, 3, "exact")
    np.testing.assert_array_equal(three, np.repeat(decode_image(grey, 8, 6, 1, "exact"), 3, axis=2))


def test_the_content_decides_not_the_extension(save_image: Save) -> None:
    path = save_image("1.png")
    renamed = path.rename(path.with_suffix(".jpg"))
    assert decode_image(renamed, 8, 6, 3, "exact").shape == (8, 6, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_of_eight_bits_is_read(save_image: Save, mode: str) -> None:
    path = save_image("1.png", mode=mode)
    np.testing.assert_array_equal(decode_image(path, 8, 6, 3, "exact"), pixels_of(path, "RGB"))


def test_a_palette_with_transparency_is_read(tmp_path: Path) -> None:
    image = Image.new("P", (6, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "1.png", transparency=bytes([0, 128]))
    assert decode_image(tmp_path / "1.png", 8, 6, 3, "exact")[3, 3].tolist() == [200, 100, 50]


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (6, 8)).save(tmp_path / "1.jpg", exif=exif)
    assert decode_image(tmp_path / "1.jpg", 8, 6, 3, "exact").shape == (8, 6, 3)


def test_resizing_scales_both_sides_and_averages(tmp_path: Path) -> None:
    columns = np.zeros((8, 12), dtype=np.uint8)
    columns[:, ::2] = 255  # one pixel wide stripes: their average is grey, a subsample is black or white
    Image.fromarray(columns).save(tmp_path / "1.png")
    picture = decode_image(tmp_path / "1.png", 2, 3, 1, "resize")
    assert picture.shape == (2, 3, 1)
    assert np.abs(picture.astype(int) - 127).max() < 30
    assert decode_image(tmp_path / "1.png", 16, 5, 3, "resize").shape == (16, 5, 3)


def test_resizing_to_the_same_size_changes_nothing(save_image: Save) -> None:
    path = save_image("1.png")
    np.testing.assert_array_equal(decode_image(path, 8, 6, 3, "resize"), decode_image(path, 8, 6, 3, "exact"))


def test_another_size_is_refused_with_both_sizes_and_the_way_out(save_image: Save) -> None:
    path = save_image("1.png", height=8, width=6)
    with pytest.raises(
        ValueError, match=r'1.png: it has height 8 and width 6, not 6 and 8; crop it .* or set fit="resize"'
    ):
        decode_image(path, 6, 8, 3, "exact")


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    text = tmp_path / "1.jpg"
    text.write_text("not an image")
    with pytest.raises(ValueError, match=r"cannot decode .*1.jpg: its content is none of BMP, JPEG, PNG, PPM, WEBP"):
        decode_image(text, 8, 6, 3, "resize")
    with pytest.raises(ValueError, match=r"cannot decode .*2.jpg: there is no such file"):
        decode_image(tmp_path / "2.jpg", 8, 6, 3, "resize")
    with pytest.raises(ValueError, match=r"cannot decode .*: .*directory"):
        decode_image(tmp_path, 8, 6, 3, "resize")
    (tmp_path / "3.png").touch()
    with pytest.raises(ValueError, match=r"cannot decode .*3.png: it is empty, 0 bytes"):
        decode_image(tmp_path / "3.png", 8, 6, 3, "resize")


def test_a_format_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (6, 8)).save(tmp_path / "1.gif")
    with pytest.raises(ValueError, match=r"1.gif: its content is none of"):
        decode_image(tmp_path / "1.gif", 8, 6, 3, "resize")


@pytest.mark.parametrize("extension", ["png", "bmp", "ppm", "jpg", "webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(save_image: Save, extension: str, kept: float) -> None:
    path = save_image(f"1.{extension}", height=40, width=40)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=rf"cannot decode .*1.{extension}: "):
        decode_image(path, 40, 40, 3, "exact")


def test_a_file_with_a_broken_chunk_is_named(tmp_path: Path) -> None:
    data = zlib.compress(bytes(40 * 41), level=0)
    path = write_png(tmp_path / "1.png", 40, b"IDAT" + data[:100], b"\xa3\x8d\xb5\n" + data[100:])
    with pytest.raises(ValueError, match=r"cannot decode .*1.png: broken PNG file"):
        decode_image(path, 40, 40, 3, "exact")


def test_a_damaged_file_is_named_or_read_but_raises_nothing_else(save_image: Save) -> None:
    path = save_image("1.png", height=40, width=40)
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[generator.integers(8, 200)] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            assert decode_image(path, 40, 40, 3, "resize").shape == (40, 40, 3)
        except ValueError as error:
            assert "cannot decode" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("side", [8193, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(ValueError, match=r"cannot decode .*1.png: .*pixels"):
        decode_image(write_png(tmp_path / "1.png", side, b"IDAT"), 8, 6, 3, "resize")


def test_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 6), 40_000, dtype=np.uint16)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1.png: its pixels are I;16, not 8 bits a channel; convert it first"):
        decode_image(tmp_path / "1.png", 8, 6, 1, "exact")


@pytest.mark.parametrize(("colour", "channels", "kind"), [(2, 3, "RGB"), (4, 2, "LA"), (6, 4, "RGBA")])
def test_colours_of_sixteen_bits_are_refused_where_pillow_clips_them(
    tmp_path: Path, colour: int, channels: int, kind: str
) -> None:
    for depth in (8, 16):
        pixels = zlib.compress((b"\0" + b"\x7f" * (2 * channels * depth // 8)) * 2)
        write_png(tmp_path / f"{depth}.png", 2, b"IDAT" + pixels, b"IEND", depth=depth, colour=colour)
    decode_image(tmp_path / "8.png", 2, 2, 3, "exact")
    fault = rf"16.png: its pixels are {kind};16B, not 8 bits a channel; convert it first"
    with pytest.raises(ValueError, match=fault):
        decode_image(tmp_path / "16.png", 2, 2, 3, "exact")
    with pytest.raises(ValueError, match=fault):
        single_image(tmp_path / "16.png")


@pytest.mark.parametrize("content", [b"P6 2 2 %d\n" + bytes(24), b"P3 2 2 %d\n" + b"9 " * 12])
def test_a_ppm_whose_largest_value_takes_two_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.ppm"
    for largest in (100, 255):
        path.write_bytes(content % largest)
        decode_image(path, 2, 2, 3, "exact")
    for largest in (256, 1000, 65535):
        path.write_bytes(content % largest)
        with pytest.raises(ValueError, match=rf"1.ppm: its pixels are RGB up to {largest:,}, not 8 bits a channel"):
            decode_image(path, 2, 2, 3, "exact")


@pytest.mark.parametrize(("channels", "fit"), [(2, "exact"), (4, "exact"), (3, "crop")])
def test_unknown_channels_and_fits_are_refused(save_image: Save, channels: int, fit: Fit) -> None:
    with pytest.raises(ValueError, match="must be"):
        decode_image(save_image("1.png"), 8, 6, channels, fit)
    with pytest.raises(ValueError, match=r"ImageFormat.(channels|fit) must be"):
        ImageFormat(height=8, width=6, channels=channels, fit=fit)


def test_a_format_decodes_as_the_function(save_image: Save) -> None:
    path = save_image("1.png")
    image_format = ImageFormat(height=4, width=5, channels=1, fit="resize")
    np.testing.assert_array_equal(image_format.decode(path), decode_image(path, 4, 5, 1, "resize"))
    with pytest.raises(ValueError, match=r"ImageFormat.height must be an integer >= 1, got 0"):
        ImageFormat(height=0)


def test_normalise_maps_0_to_255_onto_minus_one_to_one() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(2, 1, 16, 8)
    result = normalise(images)
    assert result.dtype == torch.float32
    assert result.shape == images.shape
    torch.testing.assert_close(result, (images.double() / 127.5 - 1).float(), rtol=0, atol=1e-6)
    assert result.min() == -1
    assert result.max() == 1
    assert images.flatten()[-1] == 255  # untouched


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 2, 2), torch.zeros(3, 2, 2, dtype=torch.uint8)])
def test_normalise_takes_batches_of_pixels_only(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes uint8 pixels .* got torch.* are they normalised already"):
        normalise(images)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_pixels_are_those_of_pillow(
    tmp_path: Path, mode: str, subsampling: int, channels: int, *, progressive: bool
) -> None:
    smooth = np.random.default_rng(subsampling).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((41, 37), Image.Resampling.BICUBIC).convert(mode)
    options: dict[str, Any] = {} if mode == "L" else {"subsampling": subsampling}
    exif = Image.Exif()
    exif[0x0112] = 6  # an orientation, which is ignored
    image.save(tmp_path / "1.jpg", quality=80, progressive=progressive, exif=exif, **options)
    with Image.open(tmp_path / "1.jpg") as file:
        pillow = file.convert("RGB" if channels == 3 else "L")
    for size in ((37, 41), (20, 30)):
        expected = np.asarray(pillow.resize(size[::-1], Image.Resampling.BILINEAR) if size != (37, 41) else pillow)
        found = decode_image(tmp_path / "1.jpg", *size, channels, "resize")
        np.testing.assert_array_equal(found, expected.reshape(*size, channels))


def test_a_jpeg_without_fault_does_not_pass_through_pillow(
    tmp_path: Path, save_image: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_image("1.jpg")
    expected = decode_image(path, 8, 6, 3, "exact")
    monkeypatch.setattr(module, "_opened", None)
    np.testing.assert_array_equal(decode_image(path, 8, 6, 3, "exact"), expected)
    (tmp_path / "2.jpg").write_bytes(path.read_bytes()[:-2])
    with pytest.raises(TypeError):  # Pillow is to decide about a file that is not whole
        decode_image(tmp_path / "2.jpg", 8, 6, 3, "exact")
