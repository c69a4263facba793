"""`.bin` sets: round trips, what old writers left, and refusals that name the file."""

import hashlib
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qmargin.data import EncodedImage, ImageFormat
from qmargin.protocols import ImagePairs, read_bin, write_bin

SAME = [True, False] * 6


def encoded(value: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


IMAGES = [encoded(value) for value in range(2 * len(SAME))]


def contents(pairs: ImagePairs) -> list[bytes]:
    """The image of every side, in the order of the file."""
    images = [image for image in pairs.images if isinstance(image, EncodedImage)]
    return [bytes(images[place].content) for place in pairs.sides.ravel()]


def test_what_is_written_is_read_and_is_what_everyone_reads(tmp_path: Path) -> None:
    path = tmp_path / "own.bin"
    write_bin(path, IMAGES, np.array(SAME))
    pairs = read_bin(path)
    assert contents(pairs) == IMAGES
    assert pairs.same.tolist() == SAME
    assert pairs.folds.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert pairs.name == "own"
    assert pairs.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert pickle.loads(path.read_bytes()) == (IMAGES, SAME)  # noqa: S301 - written a line above


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_arrays", [False, True])
def test_every_writer_of_the_field_is_read(tmp_path: Path, protocol: int, *, as_arrays: bool) -> None:
    """JPEG buffers as bytes or as uint8 arrays (cv2.imencode); labels as a list, numpy booleans or an array."""
    path = tmp_path / "lfw.bin"
    bins = [np.frombuffer(image, np.uint8).reshape(-1, 1) if as_arrays else image for image in IMAGES]
    for labels in (SAME, [np.bool_(value) for value in SAME], np.array(SAME), [int(value) for value in SAME]):
        path.write_bytes(pickle.dumps((bins, labels), protocol))
        pairs = read_bin(path)
        assert contents(pairs) == IMAGES
        assert pairs.same.tolist() == SAME


def test_an_image_of_several_pairs_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    write_bin(path, [IMAGES[place // 3] for place in range(24)], SAME)
    pairs = read_bin(path)
    assert len(pairs.images) == 8
    assert pairs.sides.ravel().tolist() == [place // 3 for place in range(24)]


def test_images_are_decoded_when_asked_for_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    write_bin(path, [*IMAGES[:5], b"no image", *IMAGES[6:]], SAME)
    pairs = read_bin(path)
    image = ImageFormat(height=8, width=8)
    assert image.decode(pairs.images[3])[0, 0].tolist() == [3, 0, 252]
    with pytest.raises(ValueError, match=r"cannot decode image 5 of the set: its content is none of BMP, JPEG"):
        image.decode(pairs.images[5])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1, 2, 3], r"lfw\.bin holds no pair \(images, same\)"),
        (b"bytes", r"lfw\.bin holds no pair"),
        ((IMAGES[:-1], SAME), r"lfw\.bin holds 23 images for 12 pairs: it must be two a pair"),
        ((b"bytes", SAME), r"lfw\.bin holds no list of images for 12 pairs"),
        ((IMAGES, b"bytes"), r"its second part must be a list of booleans, got memoryview"),
        ((IMAGES, [*SAME[:-1], 2]), r"label 11 must be True or False, got a int"),
        ((IMAGES, [*SAME[:-1], None]), r"label 11 must be True or False, got a NoneType"),
        (([*IMAGES[:-1], "text"], SAME), r"image 23 must be .* got an empty one or another str"),
        (([*IMAGES[:-1], b""], SAME), r"image 23 must be the bytes of an image file"),
        (([*IMAGES[:-1], [1]], SAME), r"image 23 must be .* list"),
        (([*IMAGES[:-1], np.arange(3)], SAME), r"image 23 must be .* PickledArray"),
        ((IMAGES, [True] * 12), r"lists 12 pairs of one person and 0 of two: it needs both kinds"),
        ((IMAGES[:4], SAME[:2]), r"lists 1 pairs of one person and 1 of two: .* 10 pairs or more"),
    ],
)  # fmt: skip
def test_what_is_no_set_is_refused_with_its_reason(tmp_path: Path, document: object, message: str) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(document))
    with pytest.raises(ValueError, match=message):
        read_bin(path)


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    own: list[object] = list(IMAGES[:-1])
    own.append(own)
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((own, SAME)))
    with pytest.raises(ValueError, match=r"image 23 must be the bytes of an image file, got an empty .* list"):
        read_bin(path)


def test_files_that_are_too_large_or_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    with pytest.raises(ValueError, match=r"cannot read .*lfw\.bin: No such file"):
        read_bin(path)
    with path.open("wb") as file:
        file.truncate(3 << 30)  # a hole: no room on the disk, and not read
    with pytest.raises(ValueError, match=r"lfw\.bin has 3,221,225,472 bytes, more than 2,147,483,648: pass max_bytes"):
        read_bin(path)


def test_a_set_needs_two_images_a_pair_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs two images a pair, got 3 images for 2 pairs"):
        write_bin(tmp_path / "own.bin", IMAGES[:3], [True, False])
    assert not list(tmp_path.iterdir())
