"""Batches from processes: the pixels of threads, whatever the number; errors, and processes that are killed."""

import multiprocessing
import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from qmargin.data import (
    Augmentation,
    ImageBatches,
    ImageFormat,
    Manifest,
    Samples,
    ShuffledBatches,
    SyntheticIdentities,
    prepare_faces,
    read_face_records,
    read_shards,
    sequential,
)
from qmargin.data.processes import AHEAD, Pixels, decode_in_processes

FORMAT = ImageFormat(height=8, width=6, channels=3)
STRONG = Augmentation(shift=2.0, rotation=20.0, brightness=0.3, crop=0.5, low_resolution=0.5, photometric=0.5)


def loader(samples: Samples, workers: int = 2, *, processes: bool = True) -> ImageBatches:
    return ImageBatches(samples, FORMAT, STRONG, ShuffledBatches(len(samples), 6, 3), workers, processes=processes)


def children() -> int:
    return sum(process.name == "qmargin-decode" for process in multiprocessing.active_children())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_give_the_batches_of_threads_also_after_a_resumption(people: Manifest, workers: int) -> None:
    expected = list(loader(people, processes=False).iterate(2, 13))
    found = list(loader(people, workers).iterate(2, 13))
    assert [batch.step for batch in found] == list(range(2, 13))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.images, theirs.images)
        assert torch.equal(mine.labels, theirs.labels)
        np.testing.assert_array_equal(mine.indices, theirs.indices)
    (resumed,) = loader(people, workers).iterate(12, 13)
    assert torch.equal(resumed.images, expected[-1].images)
    assert children() == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_give_every_sample_once_in_order_as_threads_do(people: Manifest, workers: int) -> None:
    expected = list(sequential(people, FORMAT, 6, workers))
    found = list(sequential(people, FORMAT, 6, workers, processes=True))
    assert [(batch.step, len(batch.images)) for batch in found] == [(0, 6), (1, 6), (2, 6), (3, 2)]
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.images, theirs.images)
        assert torch.equal(mine.labels, theirs.labels)
        np.testing.assert_array_equal(mine.indices, theirs.indices)
    with closing(sequential(people, FORMAT, 2, workers, processes=True)) as stream:
        next(stream)
        assert children() == workers
    assert children() == 0
    (people.root / people.paths[13]).write_text("not an image")
    with pytest.raises(ValueError, match=rf"cannot decode .*{people.paths[13]}: its content is none of"):
        list(sequential(people, FORMAT, 6, workers, processes=True))
    assert children() == 0


def test_records_shards_and_synthetic_identities_come_through_processes(people: Manifest, tmp_path: Path) -> None:
    for index, path in enumerate(people.paths):
        target = tmp_path / "faces" / people.identities[index] / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((people.root / path).read_bytes())
    prepare_faces(tmp_path / "faces", "folder", tmp_path / "rec", "rec")
    prepare_faces(tmp_path / "faces", "folder", tmp_path / "tar", "tar")
    tables: list[Samples] = [
        read_face_records(tmp_path / "rec" / "train.rec"),
        read_shards(tmp_path / "tar"),
        SyntheticIdentities(identities=9, samples=30, test_identities=2).read().subset("train"),
    ]
    for table in tables:
        with (
            closing(loader(table).iterate(0, 4)) as found,
            closing(loader(table, processes=False).iterate(0, 4)) as same,
        ):
            assert all(torch.equal(a.images, b.images) for a, b in zip(found, same, strict=True))


def test_the_same_samples_in_other_layouts_train_alike(people: Manifest, tmp_path: Path) -> None:
    for index, path in enumerate(people.paths):
        target = tmp_path / "faces" / people.identities[index] / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((people.root / path).read_bytes())
    prepare_faces(tmp_path / "faces", "folder", tmp_path / "rec", "rec")
    records = read_face_records(tmp_path / "rec" / "train.rec")
    assert records.labels.tolist() == people.labels.tolist()
    for mine, theirs in zip(loader(records).iterate(0, 3), loader(people, processes=False).iterate(0, 3), strict=True):
        assert torch.equal(mine.images, theirs.images)
        assert torch.equal(mine.labels, theirs.labels)


def test_an_empty_range_starts_no_process(people: Manifest) -> None:
    assert list(loader(people).iterate(3, 3)) == []


def test_a_file_that_cannot_be_decoded_reaches_the_caller_by_name(people: Manifest) -> None:
    (people.root / people.paths[13]).write_text("not an image")
    with pytest.raises(ValueError, match=rf"cannot decode .*{people.paths[13]}: its content is none of"):
        list(loader(people).iterate(0, 12))
    assert children() == 0


@dataclass(frozen=True)
class Odd:
    """A job that does something else."""

    what: str = ""
    shape: tuple[int, ...] = (2, 1, 2, 2)

    def decode(self, into: Pixels) -> None:
        if self.what == "fail":
            raise KeyError("a fault of ours")
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "exit":
            os._exit(3)
        into[:] = os.getpid() % 251


@pytest.mark.parametrize("number", [0, 5])
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("die", ChildProcessError, r"the process \d+ that decodes images was killed by SIGKILL before its next batch"),
        ("exit", ChildProcessError, r"the process \d+ that decodes images ended with status 3 before its next batch"),
        ("fail", RuntimeError, r"(?s)a process that decodes images failed:.*KeyError: 'a fault of ours'"),
    ],
)
def test_a_process_that_is_lost_is_a_clear_error(number: int, what: str, error: type[Exception], message: str) -> None:
    jobs = [Odd() for _ in range(9)]
    jobs[number] = Odd(what)
    done = []
    with pytest.raises(error, match=message):  # noqa: PT012 - what came before the loss counts
        for pixels in decode_in_processes(jobs, 2):
            done.append(pixels)  # noqa: PERF402
    assert len(done) == number
    assert children() == 0


def test_a_process_killed_from_outside_is_noticed(people: Manifest) -> None:
    with closing(loader(people).iterate(0, 10_000)) as stream:
        next(stream)
        (victim, *_) = [child for child in multiprocessing.active_children() if child.name == "qmargin-decode"]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match="was killed by SIGKILL"):
            list(stream)
    assert children() == 0


def test_processes_end_with_the_iterator_however_it_ends(people: Manifest) -> None:
    stream = loader(people, workers=2).iterate(0, 1000)
    assert children() == 0  # not before the first batch is asked for
    next(stream)
    assert children() == 2
    stream.close()
    assert children() == 0


def test_batches_are_copies_and_few_are_ahead() -> None:
    asked: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return 50

        def __getitem__(self, number: int) -> Odd:
            asked.append(number)
            return Odd(shape=(2, 1, 2, 2 if number < 49 else 1))

    kept = []
    for used, pixels in enumerate(decode_in_processes(Counted(), 2), 1):
        kept.append(pixels)
        time.sleep(0.001)
        assert max(asked) < used + 2 * AHEAD
    assert [pixels.shape for pixels in kept] == [(2, 1, 2, 2)] * 49 + [(2, 1, 2, 1)]
    assert {len(np.unique(pixels)) for pixels in kept} == {1}  # each of one process, and never overwritten
    assert len({int(pixels.flat[0]) for pixels in kept}) == 2
