"""Embeddings that were made elsewhere: .npz, .npy with a list of ids, or Kaldi's text archive; nothing is unpickled.

Conventions:
    `.npz`: arrays `ids` (items,) and `embeddings` (items, dim), or `paths` and `vectors` as `qmargin embed` writes.
    `.npy`: (items, dim), with a text file of one id a line. `.ark` or `.txt`: lines `id  [ 1.0 2.0 ... ]`.
    Ids are distinct, embeddings finite.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from qmargin._files import write_arrays
from qmargin.scoring.directions import Vectors

KEYS = (("ids", "embeddings"), ("paths", "vectors"))


@dataclass(frozen=True, eq=False)
class VectorSet:
    """Embeddings by id."""

    ids: NDArray[np.str_]  # (items,) distinct
    vectors: Vectors  # (items, dim), raw

    def locate(self, wanted: NDArray[np.str_], what: str) -> NDArray[np.intp]:
        """Rows (wanted,) of ids; a ValueError names the first that is missing and counts all such.

        Args:
            wanted: ids.
            what: where the embeddings come from, for the error.
        """
        order = np.argsort(self.ids)
        place = np.minimum(np.searchsorted(self.ids, wanted, sorter=order), len(order) - 1)
        rows: NDArray[np.intp] = order[place]
        missing = self.ids[rows] != wanted
        if missing.any():
            first = wanted[int(missing.argmax())]
            raise ValueError(
                f"{what} has no embedding of {str(first)!r}; {np.count_nonzero(missing)} of {len(wanted)} utterances "
                f"are missing (there are ids like {str(self.ids[0])!r}: do both name recordings alike?)"
            )
        return rows

    def save(self, path: Path) -> None:
        """Write them as .npz, atomically; `read_vectors` reads it."""
        write_arrays(path, ids=self.ids, embeddings=self.vectors)


def read_vectors(path: Path, ids: Path | None = None) -> VectorSet:
    """Read embeddings from a file whose ending says what it is; see the conventions of this module.

    Args:
        path: .npz, .npy, .ark or .txt.
        ids: text file of one id a line, exactly with .npy.

    Returns:
        The embeddings, float32.

    Raises:
        ValueError: a file that is missing, damaged, pickled or of another ending; ids that repeat or do not match in
            number; embeddings that are not finite (the first id is named).

    See also `VectorSet.locate`.
    """
    if path.suffix not in READERS:
        raise ValueError(f"{path}: embeddings are read from {', '.join(READERS)} files, by their ending")
    if (path.suffix == ".npy") != (ids is not None):
        raise ValueError(f"{path}: a list of ids is needed with .npy, and only there")
    if not path.is_file():
        raise ValueError(f"no embeddings at {path}")
    try:
        names, vectors = READERS[path.suffix](path)
    except (BadZipFile, OSError, EOFError, KeyError, zlib.error) as error:
        raise ValueError(f"{path} does not hold embeddings ({error})") from error
    if ids is not None:
        names = np.array(ids.read_text(encoding="utf-8").split("\n"))
        names = names[:-1] if names[-1] == "" else names
    return _checked(path, names, vectors)


def _checked(path: Path, ids: NDArray[Any], vectors: NDArray[Any]) -> VectorSet:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or vectors.size == 0:
        raise ValueError(
            f"{path}: embeddings must be floats of shape (items, dim), got {vectors.dtype} {vectors.shape}"
        )
    if ids.shape != (len(vectors),) or ids.dtype.kind != "U":
        raise ValueError(f"{path}: {len(vectors)} embeddings need as many ids (text), got {ids.dtype} {ids.shape}")
    names, first, counts = np.unique(ids, return_index=True, return_counts=True)
    if len(names) < len(ids):
        repeated = ids[int(first[counts > 1].min())]
        raise ValueError(f"{path}: id {str(repeated)!r} stands there twice ({np.sum(counts > 1)} such ids)")
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        raise ValueError(
            f"{path}: the embedding of {str(ids[int(broken.argmax())])!r} is not finite ({broken.sum()} such)"
        )
    return VectorSet(ids, vectors.astype(np.float32))


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open("rb") as file, _load(path, file) as archive:
        for keys in KEYS:
            if set(keys) <= set(archive):
                ids, vectors = (_member(path, archive, key) for key in keys)
                return ids, vectors
        raise ValueError(f"{path} holds {', '.join(archive) or 'nothing'}; needed are the arrays ids and embeddings")


def _read_npy(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with path.open("rb") as file:
        return np.array([]), _load(path, file)


def _load(path: Path, file: Any) -> Any:  # noqa: ANN401 - an array, or an archive of some
    try:
        return np.load(file, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is not a plain numpy file ({error}); nothing is unpickled here") from error


def _member(path: Path, archive: Mapping[str, NDArray[Any]], key: str) -> NDArray[Any]:
    try:
        return archive[key]
    except ValueError as error:
        raise ValueError(f"{path}: array {key} cannot be read ({error}); save ids as text, not as objects") from error


def _read_text_ark(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Kaldi's `copy-vector ... ark,t:`."""
    ids: list[str] = []
    rows: list[Vectors] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        words = line.split()
        if not words:
            continue
        try:
            name, opening, *values, closing = (word.decode("utf-8") for word in words)
            row = np.array(values, dtype=np.float32)
        except ValueError:
            name, opening, closing, row = "", "", "", np.empty(0, dtype=np.float32)
        if (opening, closing) != ("[", "]") or row.size == 0 or (rows and rows[0].size != row.size):
            raise ValueError(
                f"{path}, line {number}: expected `id  [ numbers ]`, as many as on line 1; a binary archive is turned "
                "into this by Kaldi's copy-vector scp:xvector.scp ark,t:xvector.txt"
            )
        ids.append(name)
        rows.append(row)
    return np.array(ids), np.array(rows, dtype=np.float32)


READERS: dict[str, Callable[[Path], tuple[NDArray[Any], NDArray[Any]]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".ark": _read_text_ark,
    ".txt": _read_text_ark,
}
