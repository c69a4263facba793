"""From a manifest to batches of pixels: decoded and augmented by threads, in order, a few batches ahead."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from qmargin.data._checks import check_counts
from qmargin.data.augment import Augmentation, Pixels, augment
from qmargin.data.decode import ImageFormat
from qmargin.data.samples import Samples
from qmargin.data.sampling import Indices, ShuffledBatches

Batches = Generator["Batch", None, None]
B = TypeVar("B")


@dataclass(frozen=True)
class Batch:
    """Images of one step."""

    step: int
    images: Tensor  # (batch, channels, height, width) uint8
    labels: Tensor  # (batch,) int64
    indices: Indices  # (batch,) place of each sample in the manifest

    @property
    def inputs(self) -> Tensor:
        """The images: what training moves to its device."""
        return self.images


class ImageBatches:
    """Training batches: shuffled, decoded, augmented.

    Step and place in the batch seed each image's augmentation, so a batch is the same pixels whatever the number of
    threads and wherever the run was resumed. `workers` batches are decoded ahead of the one in use.

    Args:
        manifest: the samples.
        image_format: what they are decoded to.
        augmentation: how they are changed; None for not at all.
        batches: their order; made for `len(manifest)` samples.
        workers: threads, >= 1; one batch is decoded by one thread.

    Raises:
        ValueError: the order is for another number of samples.

    Example:
        >>> from qmargin.data import read_orl
        >>> faces, image = read_orl(), ImageFormat(height=28, width=23, channels=1, fit="resize")
        >>> batches = ImageBatches(faces, image, Augmentation(), ShuffledBatches(len(faces), batch_size=32, seed=0))
        >>> [(batch.step, tuple(batch.images.shape)) for batch in batches.iterate(7, 9)]
        [(7, (32, 1, 28, 23)), (8, (32, 1, 28, 23))]

    Sibling: `sequential`, every sample once and unchanged.
    """

    def __init__(
        self,
        manifest: Samples,
        image_format: ImageFormat,
        augmentation: Augmentation | None,
        batches: ShuffledBatches,
        workers: int = 2,
    ) -> None:
        check_counts("ImageBatches", 1, workers=workers)
        if batches.samples != len(manifest):
            raise ValueError(
                f"the order is for {batches.samples} samples, the manifest has {len(manifest)}: make it with "
                "ShuffledBatches(len(manifest), ...)"
            )
        self.manifest = manifest
        self.image_format = image_format
        self.augmentation = augmentation
        self.batches = batches
        self.workers = workers
        self._labels = manifest.labels

    def iterate(self, start_step: int, stop_step: int) -> Batches:
        """Yield the batches of the steps in [start_step, stop_step), in order.

        Closing the generator, or leaving it by an error, ends its threads. A file that cannot be decoded raises the
        ValueError of `decode_image` when its batch is due.
        """
        check_counts("ImageBatches", 0, start_step=start_step, stop_step=stop_step)
        return in_order(range(start_step, stop_step), self.batches.__getitem__, self._decode, self.workers)

    def _decode(self, step: int, indices: Indices) -> Batch:
        first = self.batches.rank * self.batches.batch_size

        def change(picture: Pixels, place: int) -> Pixels:
            if self.augmentation is None:
                return picture
            seed = np.random.SeedSequence(self.batches.seed, spawn_key=(step, first + place))
            return augment(picture, np.random.default_rng(seed), self.augmentation)

        images = _decode(self.manifest, self.image_format, indices, change)
        return Batch(step, images, torch.from_numpy(self._labels[indices]), indices)


def sequential(manifest: Samples, image_format: ImageFormat, batch_size: int, workers: int = 2) -> Batches:
    """Yield every sample once, in order and unchanged, as for embedding; the last batch holds the rest.

    Args:
        manifest: the samples.
        image_format: what they are decoded to.
        batch_size: samples of a batch, >= 1.
        workers: threads, >= 1; as many batches are decoded ahead of the one in use.

    Returns:
        A generator of batches with steps 0, 1, ...; closing it ends its threads.

    Raises:
        ValueError: a count below 1; on iterating, what `decode_image` refuses.

    Example:
        >>> from qmargin.data import read_orl
        >>> faces, image = read_orl().subset("test"), ImageFormat(height=28, width=23, channels=1, fit="resize")
        >>> [tuple(batch.images.shape) for batch in sequential(faces, image, batch_size=64)]
        [(64, 1, 28, 23), (36, 1, 28, 23)]

    Sibling: `ImageBatches`, shuffled and augmented.
    """
    check_counts("sequential", 1, batch_size=batch_size, workers=workers)
    labels = manifest.labels

    def indices_of(step: int) -> Indices:
        return np.arange(step * batch_size, min((step + 1) * batch_size, len(manifest)), dtype=np.int64)

    def decode(step: int, indices: Indices) -> Batch:
        images = _decode(manifest, image_format, indices, lambda picture, _: picture)
        return Batch(step, images, torch.from_numpy(labels[indices]), indices)

    return in_order(range(-(-len(manifest) // batch_size)), indices_of, decode, workers)


def _decode(
    manifest: Samples, image_format: ImageFormat, indices: Indices, change: Callable[[Pixels, int], Pixels]
) -> Tensor:
    images = np.empty((len(indices), *image_format.shape), dtype=np.uint8)
    for place, index in enumerate(indices):
        picture = change(manifest.pixels(int(index), image_format), place)
        images[place] = picture.transpose(2, 0, 1)
    return torch.from_numpy(images)


def in_order(
    steps: range, indices_of: Callable[[int], Indices], decode: Callable[[int, Indices], B], workers: int
) -> Generator[B, None, None]:
    """Yield `decode(step, indices_of(step))` for each step, in order; threads work `workers` steps ahead."""
    pending: deque[Future[B]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="qmargin-decode") as pool:
        try:
            for step in steps:
                pending.append(pool.submit(decode, step, indices_of(step)))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
