"""Images that stay in memory: the same pixels, each decoded once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qmargin.data import Augmentation, EncodedImage, ImageBatches, ImageFormat, Manifest, ShuffledBatches
from qmargin.data.kept import KeptPixels
from qmargin.recipes import find_recipe

FORMAT = ImageFormat(height=8, width=6, channels=3)
CHANGES = Augmentation(flip=0.5, shift=1.0, brightness=0.3)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is decoded."""
    count: Counter[str] = Counter()
    plain = ImageFormat.decode

    def counting(self: ImageFormat, path: Path | EncodedImage) -> Any:
        count[str(path)] += 1
        return plain(self, path)

    monkeypatch.setattr(ImageFormat, "decode", counting)
    return count


@pytest.mark.parametrize("workers", [1, 3])
def test_epochs_of_kept_images_are_those_of_images_decoded_anew(
    people: Manifest, decoded: Counter[str], workers: int
) -> None:
    order = ShuffledBatches(len(people), batch_size=5, seed=2)
    anew = list(ImageBatches(people, FORMAT, CHANGES, order, 1).iterate(0, 12))  # three epochs
    assert set(decoded.values()) == {3}
    decoded.clear()
    kept = ImageBatches(people, FORMAT, CHANGES, order, workers, keep_decoded=True)
    for first, second in zip(kept.iterate(0, 12), anew, strict=True):
        torch.testing.assert_close(first.images, second.images, rtol=0, atol=0)
    assert len(decoded) == len(people)
    assert max(decoded.values()) <= min(2, workers)


def test_what_is_kept_cannot_be_changed_by_its_reader(people: Manifest) -> None:
    kept = KeptPixels(people, FORMAT)
    with pytest.raises(ValueError, match="read-only"):
        kept(3)[0, 0, 0] = 1
    assert kept.decoded == 1


def test_processes_would_each_keep_their_own(people: Manifest) -> None:
    order = ShuffledBatches(len(people), batch_size=5, seed=2)
    with pytest.raises(ValueError, match="kept in memory are decoded by threads: processes would each keep their own"):
        ImageBatches(people, FORMAT, None, order, processes=True, keep_decoded=True)
    data = find_recipe("faces-small").with_loss().image_data
    with pytest.raises(ValueError, match=r"data\.keep_decoded is for threads"):
        replace(data, processes=True, keep_decoded=True)
