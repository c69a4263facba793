import stat
from pathlib import Path

import numpy as np
import pytest

from qmargin._files import make_folder, read_arrays, replacing, write_arrays, write_text


def test_text_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "zwei ü")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "zwei ü"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text(f"half {1 / 0}" if temporary.write_text("half") else "")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "b.txt").stat().st_mode)


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot write .*none/a\.txt: No such file or directory; nothing was lost"):
        write_text(tmp_path / "none" / "a.txt", "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"cannot write .*file/run: "):
        make_folder(tmp_path / "file" / "run")


def test_arrays_survive_the_round_trip_and_pickled_objects_are_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", numbers=np.arange(3), names=np.array(["a", "b"]))
    numbers, names = read_arrays(tmp_path / "a.npz", "numbers", "names", what="numbers")
    assert numbers.tolist() == [0, 1, 2]
    assert names.tolist() == ["a", "b"]
    np.savez(tmp_path / "evil.npz", numbers=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"evil\.npz does not hold numbers .*allow_pickle=False"):
        read_arrays(tmp_path / "evil.npz", "numbers", what="numbers")
    with pytest.raises(ValueError, match=r"a\.npz does not hold numbers .*missing"):
        read_arrays(tmp_path / "a.npz", "missing", what="numbers")


def test_an_archive_damaged_anywhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, numbers=np.arange(1000))
    whole = path.read_bytes()
    for length in (0, 10, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.npz does not hold numbers"):
            read_arrays(path, "numbers", what="numbers")
