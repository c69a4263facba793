"""From a table of samples to batches of pixels: decoded by threads or processes, in order, a few batches ahead."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from qmargin.data._checks import check_counts
from qmargin.data.augment import Augmentation, Pixels, augment_view
from qmargin.data.decode import ImageFormat
from qmargin.data.kept import KeptPixels
from qmargin.data.processes import decode_in_processes
from qmargin.data.samples import Samples
from qmargin.data.sampling import Indices, ShuffledBatches

Batches = Generator["Batch", None, None]
PixelsOf = Callable[[int], Pixels]  # the image of a sample, (height, width, channels)
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


@dataclass(frozen=True)
class _Change:
    """Augmentation of the images of one step; each has a generator of (seed, step, place in the batch of all ranks)."""

    augmentation: Augmentation
    seed: int
    step: int
    first: int  # place of this rank's first image

    def __call__(self, picture: Pixels, place: int) -> Pixels:
        seed = np.random.SeedSequence(self.seed, spawn_key=(self.step, self.first + place))
        return augment_view(picture, np.random.default_rng(seed), self.augmentation)


@dataclass(frozen=True)
class _Job:
    """A batch for another process: its samples and no others."""

    samples: Samples
    image_format: ImageFormat
    change: _Change | None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.samples), *self.image_format.shape)

    def decode(self, into: Pixels) -> None:
        _decode_into(into, _of(self.samples, self.image_format), np.arange(len(self.samples)), self.change)


class ImageBatches:
    """Training batches: shuffled, decoded, augmented.

    Step and place in the batch seed each image's augmentation, so a batch is the same pixels whatever the number and
    kind of workers and wherever the run was resumed. A few batches are decoded ahead of the one in use.

    Args:
        manifest: the samples.
        image_format: what they are decoded to.
        augmentation: how they are changed; None for not at all.
        batches: their order; made for `len(manifest)` samples.
        workers: how many, >= 1; one batch is decoded by one of them.
        processes: workers are processes, else threads, which share the interpreter with the training.
        keep_decoded: each image is decoded once and stays in memory; threads only.

    Raises:
        ValueError: the order is for another number of samples, or images would be kept by processes.

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
        *,
        processes: bool = False,
        keep_decoded: bool = False,
    ) -> None:
        check_counts("ImageBatches", 1, workers=workers)
        if keep_decoded and processes:
            raise ValueError(
                "images that are kept in memory are decoded by threads: processes would each keep their own"
            )
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
        self.processes = processes
        self._labels = manifest.labels
        self._pixels = KeptPixels(manifest, image_format) if keep_decoded else _of(manifest, image_format)

    def iterate(self, start_step: int, stop_step: int) -> Batches:
        """Yield the batches of the steps in [start_step, stop_step), in order.

        Closing the generator, or leaving it by an error, ends its workers. A file that cannot be decoded raises the
        ValueError of `decode_image` when its batch is due; a process that was killed is a ChildProcessError.
        """
        check_counts("ImageBatches", 0, start_step=start_step, stop_step=stop_step)
        steps = range(start_step, stop_step)
        if self.processes:
            return _from_processes(
                _Jobs(steps, self._job),
                lambda step, images: self._batch(step, self.batches[step], images),
                self.workers,
            )
        return in_order(steps, self.batches.__getitem__, self._decode, self.workers)

    def _job(self, step: int) -> _Job:
        return _Job(self.manifest.take(self.batches[step]), self.image_format, self._change(step))

    def _change(self, step: int) -> _Change | None:
        if self.augmentation is None:
            return None
        return _Change(self.augmentation, self.batches.seed, step, self.batches.rank * self.batches.batch_size)

    def _batch(self, step: int, indices: Indices, images: Tensor) -> Batch:
        return Batch(step, images, torch.from_numpy(self._labels[indices]), indices)

    def _decode(self, step: int, indices: Indices) -> Batch:
        return self._batch(step, indices, _decode(self._pixels, self.image_format, indices, self._change(step)))


def sequential(
    manifest: Samples, image_format: ImageFormat, batch_size: int, workers: int = 2, *, processes: bool = False
) -> Batches:
    """Yield every sample once, in order and unchanged, as for embedding; the last batch holds the rest.

    Args:
        manifest: the samples.
        image_format: what they are decoded to.
        batch_size: samples of a batch, >= 1.
        workers: how many, >= 1; one batch is decoded by one of them, a few ahead of the one in use.
        processes: workers are processes, else threads; the pixels are the same.

    Returns:
        A generator of batches with steps 0, 1, ...; closing it ends its workers.

    Raises:
        ValueError: a count below 1; on iterating, what `decode_image` refuses.
        ChildProcessError: on iterating, a process was killed.

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

    def batch_of(step: int, images: Tensor) -> Batch:
        indices = indices_of(step)
        return Batch(step, images, torch.from_numpy(labels[indices]), indices)

    def decode(step: int, indices: Indices) -> Batch:
        return batch_of(step, _decode(_of(manifest, image_format), image_format, indices, None))

    steps = range(-(-len(manifest) // batch_size))
    if processes:
        jobs = _Jobs(steps, lambda step: _Job(manifest.take(indices_of(step)), image_format, None))
        return _from_processes(jobs, batch_of, workers)
    return in_order(steps, indices_of, decode, workers)


def _from_processes(jobs: "_Jobs", batch_of: Callable[[int, Tensor], Batch], workers: int) -> Batches:
    """Yield the batch of each job, made of its step and pixels."""
    with closing(decode_in_processes(jobs, workers)) as decoded:
        for step, pixels in zip(jobs.steps, decoded, strict=True):
            yield batch_of(step, torch.from_numpy(pixels))


@dataclass(frozen=True)
class _Jobs:
    """The jobs of some steps, each made when it is asked for."""

    steps: range
    job_of: Callable[[int], _Job]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, number: int) -> _Job:
        return self.job_of(self.steps[number])


def _of(samples: Samples, image_format: ImageFormat) -> PixelsOf:
    return lambda index: samples.pixels(index, image_format)


def _decode(pixels_of: PixelsOf, image_format: ImageFormat, indices: Indices, change: _Change | None) -> Tensor:
    images = np.empty((len(indices), *image_format.shape), dtype=np.uint8)
    _decode_into(images, pixels_of, indices, change)
    return torch.from_numpy(images)


def _decode_into(images: Pixels, pixels_of: PixelsOf, indices: Indices, change: _Change | None) -> None:
    for place, index in enumerate(indices):
        picture = pixels_of(int(index))
        changed = picture if change is None else change(picture, place)
        images[place] = changed.transpose(2, 0, 1)


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
