"""Samples whose images lie within larger files: a place for each, and whose it is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qmargin.data.columns import Indices
from qmargin.data.decode import EncodedImage, ImageFormat
from qmargin.data.identities import Identities, OfPeople


class ImageStore(Protocol):
    """Files that hold many images, each found by a row of numbers; pickled in a few bytes."""

    @property
    def fingerprint(self) -> str:
        """Changes where the files do (names and sizes); the same wherever they lie."""

    def path(self, place: Indices) -> str:
        """What names an image."""

    def encoded(self, place: Indices, identity: str) -> EncodedImage:
        """The bytes of an image; a ValueError where they cannot be had, or are another identity's."""


@dataclass(frozen=True, eq=False)
class PackedSamples(OfPeople):
    """Images within larger files, and whose they are.

    Args:
        store: the files.
        places: where each image lies in them, (samples, numbers) int64; the store knows what they mean.
        people: identity and split of each.
        keys: number that each has in the index of its file (samples,) int64; None where it is counted from 1 on.

    Siblings: `Manifest`, images that are files; `read_face_records` and `read_shards` make one.
    """

    store: ImageStore
    places: Indices
    people: Identities
    keys: Indices | None = None

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of places, identities and splits, and of the names and sizes of the files; not of their folder."""
        hasher = sha256("\0".join([self.store.fingerprint, *self.names]).encode())
        for column in (self.places, self.people.codes, self.people.split):
            hasher.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
        return hasher.hexdigest()

    def path(self, index: int) -> str:
        """What names a sample: its file and place in it."""
        return self.store.path(self.places[index])

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Path, identity and split of each sample, in order."""
        return zip(map(self.store.path, self.places), self.people.of_samples, self.people.splits, strict=True)

    def stem(self, index: int) -> str:
        """A file name for a sample, without an ending: its key."""
        return f"{index + 1 if self.keys is None else self.keys[index]:08d}"

    def encoded(self, index: int) -> EncodedImage:
        """The bytes of a sample's image; a ValueError where they are damaged, or another identity's."""
        return self.store.encoded(self.places[index], self.names[self.people.codes[index]])

    def pixels(self, index: int, image: ImageFormat) -> NDArray[np.uint8]:
        """The image of a sample, (height, width, channels); errors are those of `encoded` and `decode_image`."""
        return image.decode(self.encoded(index))

    def take(self, rows: Indices) -> "PackedSamples":
        """Some samples, in the order given; labels are counted anew among them."""
        keys = None if self.keys is None else self.keys[rows]
        return replace(self, places=self.places[rows], people=self.people.take(rows), keys=keys)

    def subset(self, split: str) -> "PackedSamples":
        """The samples of one split, in order; a ValueError where there are none."""
        return self.take(self.people.in_split(split))

    def hold_out(self, identities: int, seed: int) -> "PackedSamples":
        """Move some train identities to the split "validation"; as `Manifest.hold_out`."""
        return replace(self, people=self.people.hold_out(identities, seed))
