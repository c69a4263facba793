"""Tar shards that are not local, streamed by webdataset in an order that is seeded and can be resumed.

A stream has no random access: shards are visited in an order of (seed, epoch), their samples pass through a shuffle
buffer with a generator of (seed, epoch), and a resumed stream reads again, undecoded, what it had delivered. For local
shards `read_shards` is exact and needs no second reading.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from qmargin.data._checks import check_counts
from qmargin.data._webdataset import webdataset
from qmargin.data.decode import EncodedImage
from qmargin.data.shards import IMAGES, LABEL

Sample = dict[str, Any]


def stream_shards(
    urls: Sequence[str], seed: int, epoch: int, *, start: int = 0, buffer: int = 5000
) -> Iterator[tuple[EncodedImage, int]]:
    """Yield the images and labels of one epoch over shards, shuffled.

    Needs the extra `qmargin[shards]`. Addresses are opened by webdataset: files, `https:`, `s3:`, `gs:`; some of these
    run a program such as curl. A `pipe:` address would run any program and is refused. Members are never unpickled:
    only images (by their endings) and `cls` are looked at.

    Args:
        urls: address of each shard.
        seed: of the order, >= 0.
        epoch: which pass over the shards, >= 0; each has an order of its own.
        start: samples of this epoch that were seen before and are skipped, >= 0.
        buffer: samples among which the next one is drawn, >= 1; 1 leaves the order of the shard.

    Returns:
        The samples of the epoch from `start` on.

    Raises:
        ValueError: a count out of range, a `pipe:` address, webdataset is not installed; on iterating, a sample without
            exactly one image and one label.

    Sibling: `read_shards`.
    """
    check_counts("stream_shards", 0, seed=seed, epoch=epoch, start=start)
    check_counts("stream_shards", 1, buffer=buffer)
    pipes = [url for url in urls if url.startswith("pipe:")]
    if pipes or not urls:
        raise ValueError(f"shards must be addresses that run no program, at least one; got {pipes or list(urls)}")
    library = webdataset()
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(len(urls))
    drawn = random.Random(f"{seed} {epoch}")  # noqa: S311 - an order, no secret
    shuffle: Callable[..., Callable[[Iterable[Sample]], Iterable[Sample]]] = library.shuffle
    samples = library.WebDataset([urls[place] for place in order], shardshuffle=False).compose(
        shuffle(buffer, initial=buffer, rng=drawn)
    )
    return (_checked(sample) for sample in islice(samples, start, None))


def _checked(sample: Sample) -> tuple[EncodedImage, int]:
    name = f"{sample['__url__']}, sample {sample['__key__']}"
    images = [content for ending, content in sample.items() if ending in IMAGES]
    label = bytes(sample.get(LABEL, b"")).strip()
    if len(images) != 1 or not label.isdigit():
        raise ValueError(
            f"{name} has {len(images)} images and the label {label!r}: it needs one image ({', '.join(IMAGES)}) and "
            f"one member .{LABEL} that holds a whole number >= 0"
        )
    return EncodedImage(images[0], name), int(label)
