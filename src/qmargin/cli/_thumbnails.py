"""Small pictures for a page: decoded by our decoder, bounded in size, as `data:` addresses."""

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qmargin.data import ImageFormat, Samples
from qmargin.protocols.worst import WorstErrors

SIDE = 112  # pixels, the longer side at most
MOST_BYTES = 12_288  # of the JPEG; a page of 40 pairs stays below 1.4 MB
QUALITIES = (85, 70, 50, 30, 10)


def thumbnails_of(worst: WorstErrors, samples: Samples, image: ImageFormat) -> dict[str, str]:
    """Pictures of the items of pairs, by name; a ValueError names a file that is missing or no image.

    Args:
        worst: the pairs; their names are paths of `samples`.
        samples: where the pixels are.
        image: how they are decoded: what the backbone saw.
    """
    places = {samples.path(index): index for index in range(len(samples))}
    pairs = (*worst.impostors, *worst.genuine)
    names = dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second))
    return {name: thumbnail(samples.pixels(places[name], image)) for name in names}


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """A picture (height, width, 1 or 3) as the `data:` address of a JPEG of at most `MOST_BYTES`."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MOST_BYTES:
            break
    else:
        raise AssertionError(f"a JPEG of {picture.size} pixels above {MOST_BYTES} bytes at quality {QUALITIES[-1]}")
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
