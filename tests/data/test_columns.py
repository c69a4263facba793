import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.data import columns as module
from qmargin.data.columns import CategoryColumn, Column, TextColumn

TEXTS = st.lists(st.text(max_size=5), max_size=12)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)


def both(texts: list[str]) -> list[Column]:
    names = tuple(sorted(set(texts)))
    return [TextColumn.of(texts), CategoryColumn(names, np.array([names.index(text) for text in texts], np.int32))]


@given(texts=TEXTS, data=st.data())
def test_a_column_is_the_list_of_its_texts(texts: list[str], data: st.DataObject) -> None:
    texts = [text.encode(errors="replace").decode() for text in texts]
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9)) if texts else []
    for column in both(texts):
        assert list(column) == texts
        assert len(column) == len(texts)
        assert column == tuple(texts)
        assert column == both(texts)[0]
        assert column != [*texts, ""]
        assert list(column.take(np.array(rows, np.int64))) == [texts[row] for row in rows]
        assert list(column[1:7:2]) == texts[1:7:2]
        if texts:
            assert column[-1] == texts[-1]
            assert column != [*texts[:-1], texts[-1] + "x"]


def test_rows_beyond_the_end_are_refused() -> None:
    for column in both(["a", "b"]):
        with pytest.raises(IndexError):
            column[2]
        assert column != 5


@given(parts=st.lists(TEXTS, min_size=1, max_size=4))
def test_joined_parts_follow_each_other(parts: list[list[str]]) -> None:
    clean = [[text.encode(errors="replace").decode() for text in part] for part in parts]
    rows = [text for part in clean for text in part]
    assert list(TextColumn.joined([TextColumn.of(part) for part in clean])) == rows
    windows = [TextColumn.of(rows)[2:5], TextColumn.of(rows)]  # bounds of a part need not start at 0
    assert all(isinstance(window, TextColumn) for window in windows)
    assert [text for window in windows for text in window] == [*rows[2:5], *rows]


def test_a_text_without_utf8_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        TextColumn.of(["\udc80"])


def test_a_long_column_shows_its_first_rows() -> None:
    assert repr(TextColumn.of(list("abcd"))) == "<4 rows: 'a', 'b', 'c', ...>"
