"""Embeddings from elsewhere: every format, what is missing, and nothing unpickled."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.scoring import Embeddings
from qmargin.scoring.vector_files import VectorSet, read_vectors

IDS = np.array(["c/1.wav", "a/1.wav", "é/1.wav"])
VECTORS: NDArray[np.float32] = (np.arange(6).reshape(3, 2) / 3).astype(np.float32)


def test_every_format_gives_the_same_vectors(tmp_path: Path) -> None:
    VectorSet(IDS, VECTORS).save(tmp_path / "a.npz")
    Embeddings(VECTORS, np.array(["c", "a", "e"]), IDS).save(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", VECTORS.astype(np.float64))
    (tmp_path / "ids").write_text("\n".join(IDS) + "\n")
    lines = [f"{name}  [ {' '.join(map(repr, row.tolist()))} ]\n" for name, row in zip(IDS, VECTORS, strict=True)]
    (tmp_path / "d.ark").write_text("".join(lines))
    for name in ("a.npz", "b.npz", "c.npy", "d.ark"):
        found = read_vectors(tmp_path / name, tmp_path / "ids" if name == "c.npy" else None)
        assert found.ids.tolist() == IDS.tolist()
        np.testing.assert_array_equal(found.vectors, VECTORS)
        assert found.vectors.dtype == np.float32


def test_rows_are_found_by_id_and_the_missing_are_named_and_counted() -> None:
    found = VectorSet(IDS, VECTORS)
    assert found.locate(IDS[[2, 0, 2]], "x.npz").tolist() == [2, 0, 2]
    message = r"x\.npz has no embedding of 'zz'; 2 of 3 utterances are missing \(there are ids like 'c/1.wav'"
    with pytest.raises(ValueError, match=message):
        found.locate(np.array(["a/1.wav", "zz", "b"]), "x.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    objects = np.array([Trap(), Trap()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", ids=objects, embeddings=VECTORS[:2], allow_pickle=True)
    (tmp_path / "ids").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"a\.npy is not a plain numpy file .*nothing is unpickled"):
        read_vectors(tmp_path / "a.npy", tmp_path / "ids")
    with pytest.raises(ValueError, match=r"b\.npz: array ids cannot be read .*save ids as text"):
        read_vectors(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    with pytest.raises(ValueError, match="no embeddings at"):
        read_vectors(path)
    for arrays, message in [
        ({"x": VECTORS}, "holds x; needed are the arrays ids and embeddings"),
        ({"ids": IDS[:2], "embeddings": VECTORS}, "3 embeddings need as many ids"),
        ({"ids": np.array(["a", "b", "a"]), "embeddings": VECTORS}, r"id 'a' stands there twice \(1 such ids\)"),
        ({"ids": IDS, "embeddings": VECTORS.astype(int)}, "must be floats of shape"),
        (
            {"ids": IDS, "embeddings": np.where(VECTORS[1, 0] == VECTORS, np.nan, VECTORS)},
            r"embedding of 'a/1.wav' is not finite \(1 such\)",
        ),
    ]:
        np.savez(path, allow_pickle=False, **arrays)
        with pytest.raises(ValueError, match=message):
            read_vectors(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"e\.npz"):
        read_vectors(path)
    with pytest.raises(ValueError, match=r"\.npz, \.npy, \.ark, \.txt files, by their ending"):
        read_vectors(tmp_path / "e.pkl")
    with pytest.raises(ValueError, match=r"a list of ids is needed with \.npy, and only there"):
        read_vectors(tmp_path / "e.npy")
    for content in ("a [ 1 2 ]\nb [ 1 ]\n", "a [ 1 2 ]\nb 1 2\n", "a [ 1 2 ]\nb [ x 2 ]\n"):
        (tmp_path / "v.txt").write_text(content)
        with pytest.raises(ValueError, match=r"v\.txt, line 2: expected `id  \[ numbers \]`"):
            read_vectors(tmp_path / "v.txt")
