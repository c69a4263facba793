import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qmargin.data import Augmentation, Batch, ImageBatches, ImageFormat, Manifest, ShuffledBatches, sequential
from qmargin.data import batches as module

FORMAT = ImageFormat(height=8, width=6, channels=3)
STRONG = Augmentation(shift=2.0, rotation=20.0, scale=0.2, brightness=0.3, contrast=0.3)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("qmargin-decode")]


def loader(
    manifest: Manifest, augmentation: Augmentation | None = STRONG, workers: int = 2, seed: int = 0
) -> ImageBatches:
    return ImageBatches(manifest, FORMAT, augmentation, ShuffledBatches(len(manifest), 6, seed), workers)


def same(first: Batch, second: Batch) -> bool:
    return (
        first.step == second.step
        and torch.equal(first.images, second.images)
        and torch.equal(first.labels, second.labels)
        and np.array_equal(first.indices, second.indices)
    )


def test_batches_hold_the_images_the_order_asks_for(people: Manifest) -> None:
    order = ShuffledBatches(20, 6, seed=0)
    batches = list(ImageBatches(people, FORMAT, None, order).iterate(0, 5))
    assert [batch.step for batch in batches] == [0, 1, 2, 3, 4]
    for batch in batches:
        np.testing.assert_array_equal(batch.indices, order[batch.step])
        assert batch.images.shape == (6, 3, 8, 6)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous()
        assert batch.labels.dtype == torch.int64
        for image, label, index in zip(batch.images, batch.labels, batch.indices, strict=True):
            expected = FORMAT.decode(people.root / people.paths[index])
            np.testing.assert_array_equal(image.numpy(), expected.transpose(2, 0, 1))
            assert people.names[label] == people.identities[index]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_resumed_run_sees_the_same_pixels_whatever_the_number_of_workers(people: Manifest, workers: int) -> None:
    whole = list(loader(people).iterate(0, 8))
    resumed = list(loader(people, workers=workers).iterate(5, 8))
    assert all(same(*pair) for pair in zip(whole[5:], resumed, strict=True))


def test_augmentation_differs_by_step_place_and_seed(people: Manifest) -> None:
    alike = replace(people, paths=people.paths)
    for path in people.paths[1:]:  # every file is the same picture
        (people.root / path).write_bytes((people.root / people.paths[0]).read_bytes())
    images = torch.cat(
        [batch.images for seed in (0, 1) for batch in loader(alike, seed=seed).iterate(0, 6)]  # two epochs
    )
    assert len(images.flatten(1).unique(dim=0)) == len(images)


def test_ranks_augment_differently(people: Manifest) -> None:
    for path in people.paths[1:]:
        (people.root / path).write_bytes((people.root / people.paths[0]).read_bytes())
    orders = [ShuffledBatches(20, 6, 0, rank, 2) for rank in (0, 1)]
    images = torch.cat([next(ImageBatches(people, FORMAT, STRONG, order).iterate(0, 1)).images for order in orders])
    assert len(images.flatten(1).unique(dim=0)) == 12


def test_an_empty_range_yields_nothing(people: Manifest) -> None:
    assert list(loader(people).iterate(3, 3)) == []
    assert list(loader(people).iterate(5, 2)) == []


def test_sequential_gives_every_sample_once_in_order(people: Manifest) -> None:
    batches = list(sequential(people, FORMAT, 6))
    assert [len(batch.images) for batch in batches] == [6, 6, 6, 2]
    assert [batch.step for batch in batches] == [0, 1, 2, 3]
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(20))
    assert torch.cat([batch.labels for batch in batches]).tolist() == people.labels.tolist()
    expected = np.stack([FORMAT.decode(people.root / path) for path in people.paths]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]).numpy(), expected)
    assert [len(batch.images) for batch in sequential(people, FORMAT, 100, workers=1)] == [20]


def test_a_file_that_cannot_be_decoded_reaches_the_caller_by_name(people: Manifest) -> None:
    (people.root / people.paths[13]).write_text("not an image")
    batches = sequential(people, FORMAT, 6)
    assert [next(batches).step, next(batches).step] == [0, 1]
    with pytest.raises(ValueError, match=rf"cannot decode .*{people.paths[13]}: its content is none of"):
        next(batches)
    assert threads() == []
    with pytest.raises(ValueError, match=rf"cannot decode .*{people.paths[13]}"):
        list(loader(people).iterate(0, 12))


def test_threads_end_with_the_iterator_however_it_ends(people: Manifest) -> None:
    assert threads() == []
    stream = loader(people, workers=3).iterate(0, 1000)
    next(stream)
    assert 1 <= len(threads()) <= 3
    stream.close()
    assert threads() == []
    with closing(sequential(people, FORMAT, 2)) as batches:
        next(batches)
    assert threads() == []
    loader(people).iterate(0, 10).close()  # never started
    assert threads() == []


def test_only_a_few_batches_are_decoded_ahead(people: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    original = module._decode

    def counting(pixels_of: Any, image_format: ImageFormat, indices: Any, change: Any) -> torch.Tensor:
        decoded.append(len(indices))
        return original(pixels_of, image_format, indices, change)

    monkeypatch.setattr(module, "_decode", counting)
    with closing(loader(people, workers=2).iterate(0, 1000)) as stream:
        for used in range(1, 6):
            next(stream)
            time.sleep(0.02)  # for the threads to run as far ahead as they may
            assert len(decoded) <= used + 2


def test_an_order_for_another_number_of_samples_is_refused(people: Manifest) -> None:
    with pytest.raises(ValueError, match=r"the order is for 19 samples, the manifest has 20: make it with"):
        ImageBatches(people, FORMAT, None, ShuffledBatches(19, 6, 0))


def test_counts_are_checked_before_the_first_batch_is_asked_for(people: Manifest) -> None:
    with pytest.raises(ValueError, match=r"sequential.batch_size must be an integer >= 1, got 0"):
        sequential(people, FORMAT, 0)
    with pytest.raises(ValueError, match=r"sequential.workers must be an integer >= 1, got 0"):
        sequential(people, FORMAT, 4, workers=0)
    with pytest.raises(ValueError, match=r"ImageBatches.workers must be an integer >= 1, got 0"):
        loader(people, workers=0)
    with pytest.raises(ValueError, match=r"ImageBatches.start_step must be an integer >= 0, got -1"):
        loader(people).iterate(-1, 3)
