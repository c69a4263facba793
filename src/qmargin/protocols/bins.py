"""`.bin` verification sets (LFW, CFP-FP, AgeDB-30, ...): read without Python's unpickler, written for everyone.

The file is a pickle of `(bins, issame_list)`: 2 N encoded images, pair i being images 2 i and 2 i + 1, and N booleans.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qmargin._files import replacing
from qmargin.data import EncodedImage, PickledArray, unpickle
from qmargin.metrics import file_order_folds
from qmargin.protocols.image_pairs import ImagePairs, check_pairs

MAX_BYTES = 2 << 30  # the largest public set is 80 MB
PROTOCOL = 4  # of pickles written here: Python 3.4 and later read it


def read_bin(path: Path, max_bytes: int = MAX_BYTES) -> ImagePairs:
    """Read a `.bin` set; images stay encoded (views of the file) until they are embedded.

    Nothing in the file is run: see `qmargin.data.unpickle`. Images that occur in several pairs are kept, and later
    embedded, once. Folds are in file order.

    Args:
        path: the file.
        max_bytes: a larger file is refused.

    Returns:
        The pairs, with the SHA-256 of the file.

    Raises:
        ValueError: no such file, too large, no pickle of images and booleans (a name it should not hold is in the
            message), another number of images than two a pair, fewer than 10 pairs, or pairs of one kind only.

    Sibling: `write_bin`.
    """
    data = _content(path, max_bytes)
    document = unpickle(data, str(path))
    if not isinstance(document, list | tuple) or len(document) != 2:
        raise ValueError(f"{path} holds no pair (images, same): is this a .bin verification set?")
    bins, same = document
    labels = _labels(same, path)
    if not isinstance(bins, list | tuple) or len(bins) != 2 * len(labels):
        count = f"{len(bins):,}" if isinstance(bins, list | tuple) else "no list of"
        raise ValueError(f"{path} holds {count} images for {len(labels):,} pairs: it must be two a pair")
    check_pairs(path, labels)
    images, places = _distinct([_encoded(item, index, path) for index, item in enumerate(bins)])
    return ImagePairs(
        name=path.stem,
        sha256=hashlib.sha256(data).hexdigest(),
        images=images,
        sides=places.reshape(-1, 2),
        same=labels,
        folds=file_order_folds(len(labels)),
    )


def write_bin(path: Path, images: Sequence[bytes], same: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Write a `.bin` set, atomically; this and every public training script reads it.

    Args:
        path: the file.
        images: (2 pairs,) encoded images; pair i is images 2 i and 2 i + 1.
        same: (pairs,) True = one person.

    Raises:
        ValueError: not two images a pair, or the folder cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "own.bin"
        ...     write_bin(file, [bytes([n]) for n in range(20)], [True, False] * 5)
        ...     len(read_bin(file))
        10

    Sibling: `read_bin`.
    """
    if len(images) != 2 * len(same):
        raise ValueError(f"a .bin set needs two images a pair, got {len(images)} images for {len(same)} pairs")
    with replacing(path) as temporary, temporary.open("wb") as file:
        pickle.dump(([bytes(image) for image in images], [bool(label) for label in same]), file, protocol=PROTOCOL)


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(
                f"{path} has {size:,} bytes, more than {max_bytes:,}: pass max_bytes if you know where it is from"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _labels(given: object, path: Path) -> NDArray[np.bool_]:
    values = given.values.ravel() if isinstance(given, PickledArray) else given
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise ValueError(f"{path}: its second part must be a list of booleans, got {type(values).__name__}")
    for place, value in enumerate(values):
        if not isinstance(value, int) or value not in (0, 1):
            raise ValueError(f"{path}: label {place} must be True or False, got a {type(value).__name__}")
    return np.array(values, dtype=bool)


def _encoded(item: object, place: int, path: Path) -> memoryview | bytes:
    """The bytes of an image, written as such or as a numpy array of them."""
    if isinstance(item, memoryview | bytes) and len(item):
        return item
    if isinstance(item, PickledArray) and item.values.dtype == np.uint8 and item.values.size:
        return item.values.tobytes()
    raise ValueError(
        f"{path}: image {place} must be the bytes of an image file, got an empty one or another {type(item).__name__}"
    )


def _distinct(encoded: Sequence[memoryview | bytes]) -> tuple[list[EncodedImage], NDArray[np.int64]]:
    """Images without repetition, and the place of each given one among them."""
    places: dict[bytes, int] = {}
    kept: list[EncodedImage] = []
    order = np.empty(len(encoded), dtype=np.int64)
    for index, content in enumerate(encoded):
        place = places.setdefault(hashlib.sha256(content).digest(), len(kept))
        if place == len(kept):
            kept.append(EncodedImage(content, f"image {index} of the set"))
        order[index] = place
    return kept, order
