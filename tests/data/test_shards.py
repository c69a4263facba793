"""Tar shards, written by webdataset and by tarfile; read by the index, and by webdataset itself."""

import pickle
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from qmargin.data import ShardWriter, read_shards, stream_shards
from qmargin.data import _webdataset as library
from qmargin.data.shards import scan_shards

LABELS = [2, 0, 1, 1, 0, 2, 0, 3, 3, 3]

# webdataset 1.0 leaves closing a shard that was read to its end to the garbage collector
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


def write(folder: Path, per_shard: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, ("al", "bo", "cy", "di"), "test", per_shard) as writer:
        for number, label in enumerate(LABELS):
            writer.write(b"image %d" % number * (1 + 90 * number), "jpg", label)
    return folder


def tar(path: Path, *members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, BytesIO(content))
    return path


def test_what_is_written_is_read_in_any_order(tmp_path: Path) -> None:
    samples = read_shards(write(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.tar", "000001.tar", "000002.tar", "index.npz"]
    assert len(samples) == 10
    assert [name for _, name, _ in samples.rows()] == [["al", "bo", "cy", "di"][label] for label in LABELS]
    assert set(samples.people.splits) == {"test"}
    for row in (9, 0, 4, 3, 9):
        assert bytes(samples.encoded(row).content) == b"image %d" % row * (1 + 90 * row)
    shard, offset, _ = samples.places[5]
    assert samples.path(5) == f"{shard:06d}.tar@{offset}"
    assert str(samples.encoded(5)) == f"{tmp_path}/000001.tar, member at byte {offset:,}"


def test_the_index_is_what_a_walk_through_the_shards_finds(tmp_path: Path) -> None:
    indexed = read_shards(write(tmp_path))
    (tmp_path / "index.npz").unlink()
    walked = read_shards(tmp_path, "validation")
    np.testing.assert_array_equal(walked.places, indexed.places)
    np.testing.assert_array_equal(walked.labels, indexed.labels)
    assert walked.names == ("00000000", "00000001", "00000002", "00000003")
    assert len(walked.subset("validation")) == 10
    for shard in tmp_path.glob("*.tar"):  # and what another reader finds
        with tarfile.open(shard) as file:
            for member in file.getmembers():
                if member.name.endswith(".jpg"):
                    row = int(member.name.removesuffix(".jpg"))
                    assert walked.places[row].tolist() == [int(shard.stem), member.offset_data, member.size]


@leaves_files_open
def test_webdataset_reads_the_same_samples(tmp_path: Path) -> None:
    write(tmp_path)
    shards = sorted(tmp_path.glob("*.tar"))
    read = [
        (sample["__key__"], sample["jpg"], int(sample["cls"]))
        for sample in library.webdataset().WebDataset([str(shard) for shard in shards], shardshuffle=False)
    ]
    assert read == [(f"{n:09d}", b"image %d" % n * (1 + 90 * n), label) for n, label in enumerate(LABELS)]


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    for path in first.glob("*.tar"):
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert read_shards(first).digest == read_shards(second).digest
    assert read_shards(first).take(np.array([0, 1])).digest != read_shards(first).digest


def test_a_batch_is_sent_to_other_processes_in_few_bytes(tmp_path: Path) -> None:
    sent = pickle.dumps(read_shards(write(tmp_path)).take(np.array([7, 1])))
    assert len(sent) < 2000
    assert bytes(pickle.loads(sent).encoded(1).content) == b"image 1" * 91  # noqa: S301 - our own bytes


def test_labels_with_gaps_and_identities_without_images(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, ("zo", "al", "bo"), "train") as writer:
        writer.write(b"x", "png", 2)
        writer.write(b"y", "png", 0)
    assert [name for _, name, _ in read_shards(tmp_path).rows()] == ["bo", "zo"]
    assert read_shards(tmp_path).names == ("bo", "zo")
    (tmp_path / "index.npz").unlink()
    assert read_shards(tmp_path).names == ("00000000", "00000002")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_of_others_are_read(tmp_path: Path, form: int) -> None:
    long = "f" * 60 + "/" + "g" * 90
    tar(
        tmp_path / "x.tar",
        (f"{long}.cls", b"12\n"),
        (f"{long}.json", b"{}"),
        (f"{long}.JPEG", b"first"),
        ("b/1.png", b"second"),
        ("b/1.cls", b"3"),
        form=form,
    )
    samples = read_shards(tmp_path)
    assert samples.names == ("00000003", "00000012")
    assert samples.labels.tolist() == [1, 0]
    assert [bytes(samples.encoded(row).content) for row in range(2)] == [b"first", b"second"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.jpg", b"x")], r"sample '1' of .*x.tar has 1 images and the labels \[\]: it needs one image"),
        ([("1.cls", b"1")], r"sample '1' of .* has 0 images and the labels \[1\]"),
        ([("1.jpg", b"x"), ("1.png", b"x"), ("1.cls", b"1")], r"has 2 images and the labels \[1\]"),
        ([("1.jpg", b"x"), ("1.cls", b"-1")], r"has 1 images and the labels \[None\]"),
        ([("1.jpg", b"x"), ("1.cls", b"")], r"has 1 images and the labels \[None\]"),
        ([("1.jpg", b"x"), ("1.cls", b"9" * 30)], r"has 1 images and the labels \[None\]"),
        ([("1.jpg", b"x"), ("1.cls", b"1"), ("1.cls", b"1")], r"has 1 images and the labels \[1, 1\]"),
        ([], r"no sample is in .*x.tar"),
    ],
)
def test_a_sample_that_is_not_whole_is_named(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    path = tar(tmp_path / "x.tar", *members)
    with pytest.raises(ValueError, match=message):
        scan_shards([path])


def test_a_shard_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", ("1.jpg", b"x" * 700), ("1.cls", b"1"))  # 512 + 1024 + 512 + 512 and the end
    whole = path.read_bytes()
    scan_shards([path])
    for size in (0, 1, 511, 512, 1000, 1536, 1537, 2048, 2300, 2560, 2600, 3000):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"(cannot read the shard|the shard|the sample '1' of) .*x.tar"):
            scan_shards([path])


def test_an_index_of_other_shards_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "000003.tar").write_bytes((tmp_path / "000000.tar").read_bytes())
    with pytest.raises(ValueError, match=r"index.npz is of other shards than lie beside it: 000003.tar; copy them"):
        read_shards(tmp_path)
    (tmp_path / "000003.tar").unlink()
    with (tmp_path / "000001.tar").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(ValueError, match=r"is of other shards than lie beside it: 000001.tar"):
        read_shards(tmp_path)
    (tmp_path / "index.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"index.npz does not hold an index of shards"):
        read_shards(tmp_path)


@pytest.mark.parametrize(("place", "value"), [(257, b"X"), (124, b"7")])
def test_a_member_that_is_not_where_the_index_says_is_refused(tmp_path: Path, place: int, value: bytes) -> None:
    samples = read_shards(write(tmp_path))
    shard, offset, size = samples.places[2].tolist()
    with (tmp_path / f"{shard:06d}.tar").open("r+b") as file:
        file.seek(offset - 512 + place)
        file.write(value)
    message = rf"no image of {size:,} bytes lies at byte {offset:,} of .*000000.tar: the shard is damaged or cut off"
    with pytest.raises(ValueError, match=message):
        samples.encoded(2)
    (tmp_path / "000000.tar").unlink()
    with pytest.raises(ValueError, match=r"cannot read the shard .*000000.tar: No such file"):
        samples.encoded(2)


def test_folders_without_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*nowhere: give the folder of the .tar shards"):
        read_shards(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no file in .* ends in .tar"):
        read_shards(tmp_path)
    with pytest.raises(ValueError, match=r"ShardWriter.per_shard must be an integer >= 1, got 0"):
        ShardWriter(tmp_path, (), "train", 0)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ValueError, match=r"webdataset.*pip install 'qmargin\[shards\]'"):
        ShardWriter(tmp_path, (), "train")


@leaves_files_open
def test_a_stream_is_a_function_of_seed_and_epoch_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write(tmp_path)
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]

    def stream(seed: int = 0, epoch: int = 0, start: int = 0, buffer: int = 5) -> list[tuple[bytes, int]]:
        found = stream_shards(urls, seed, epoch, start=start, buffer=buffer)
        return [(bytes(image.content), label) for image, label in found]

    whole = stream()
    assert sorted(whole) == sorted((b"image %d" % n * (1 + 90 * n), label) for n, label in enumerate(LABELS))
    assert stream() == whole
    assert all(stream(start=start) == whole[start:] for start in range(12))
    assert len({tuple(stream(seed, epoch)) for seed in range(2) for epoch in range(3)}) == 6


@leaves_files_open
def test_a_stream_refuses_programs_and_samples_that_are_not_whole(tmp_path: Path) -> None:
    for urls in (["pipe:cat x.tar"], []):
        with pytest.raises(ValueError, match="shards must be addresses that run no program, at least one; got"):
            stream_shards(urls, 0, 0)
    path = tar(tmp_path / "x.tar", ("1.jpg", b"x"), ("1.pyd", b"cos\nsystem\n(S'touch hacked'\ntR."))
    with pytest.raises(ValueError, match=r"x.tar, sample 1 has 1 images and the label b'': it needs one image"):
        list(stream_shards([str(path)], 0, 0))
    assert not Path("hacked").exists()
