from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.data import Manifest

ROOT = Path("faces")


def table(*rows: tuple[str, str, str]) -> Manifest:
    paths, identities, split = zip(*rows, strict=True)
    return Manifest(ROOT, paths, identities, split)


def crowd(identities: int, images: int = 3) -> Manifest:
    return table(*[(f"{i}/{j}.png", f"p{i}", "train") for i in range(identities) for j in range(images)])


def test_labels_number_the_sorted_identities() -> None:
    manifest = table(
        ("1", "zoe", "train"), ("2", "adam", "train"), ("3", "zoe", "train"), ("4", "Bo", "train"), ("5", "b", "test")
    )
    assert len(manifest) == 5
    assert manifest.names == ("Bo", "adam", "b", "zoe")
    assert manifest.num_classes == 4
    assert manifest.labels.tolist() == [3, 1, 3, 0, 2]
    assert manifest.labels.dtype == np.int64


def test_a_subset_keeps_the_order_and_counts_labels_anew() -> None:
    manifest = table(("1", "c", "train"), ("2", "a", "test"), ("3", "b", "train"), ("4", "c", "train"))
    train = manifest.subset("train")
    assert train == table(("1", "c", "train"), ("3", "b", "train"), ("4", "c", "train"))
    assert train.labels.tolist() == [1, 0, 1]
    assert train.root == ROOT


@pytest.mark.parametrize("split", ["validation", "dev"])
def test_an_empty_or_unknown_subset_says_what_there_is(split: str) -> None:
    manifest = table(("1", "a", "train"), ("2", "b", "test"), ("3", "b", "test"))
    with pytest.raises(ValueError, match=rf"split '{split}'; this manifest holds train 1, validation 0, test 2"):
        manifest.subset(split)


def test_the_digest_depends_on_every_field_and_the_order_but_not_on_the_root() -> None:
    rows = (("1", "a", "train"), ("2", "b", "train"))
    manifest = table(*rows)
    others = [
        table(("1x", "a", "train"), rows[1]),
        table(("1", "x", "train"), rows[1]),
        table(("1", "a", "test"), rows[1]),
        table(*rows[::-1]),
        table(*rows, ("3", "c", "train")),
        table(("1", "at", "train"), ("2", "b", "train")),
    ]
    assert len({manifest.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert replace(manifest, root=Path("elsewhere")).digest == manifest.digest
    assert manifest.digest == sha256(b"1\0a\0train\n2\0b\0train\n").hexdigest()


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (("", "b", "train"), "the path is empty"),
        (("2", "", "train"), "the identity is empty"),
        (("2", "b", "dev"), "the split must be one of train, validation, test, got 'dev'"),
        (("2", "b", ""), "the split must be one of train, validation, test, got ''"),
        (("2", "a", "dev"), "identity 'a' is in the splits 'train' and 'dev'"),
        (("1", "b", "train"), "the path '1' is listed twice"),
        (("2", "a", "test"), "identity 'a' is in the splits 'train' and 'test': splits must not share identities"),
        (("/etc/2", "b", "train"), "the path '/etc/2' must be relative to the root and stay in it"),
        (("../2", "b", "train"), "must be relative to the root and stay in it"),
        (("x/../../2", "b", "train"), "must be relative to the root and stay in it"),
        (("x/..", "b", "train"), "must be relative to the root and stay in it"),
        (("./2", "b", "train"), "must be relative to the root and stay in it"),
        (("x//2", "b", "train"), "must be relative to the root and stay in it"),
        (("x/", "b", "train"), "must be relative to the root and stay in it"),
        (("x\n2", "b", "train"), "has a line break or is not UTF-8"),
        (("2", "b\r", "train"), "has a line break or is not UTF-8"),
        (("2\udc80", "b", "train"), "has a line break or is not UTF-8"),
    ],
)
def test_a_sample_that_breaks_a_law_is_named(row: tuple[str, str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=f"sample 1: .*{fault}"):
        table(("1", "a", "train"), row)


def test_dots_within_a_name_are_no_detour() -> None:
    assert len(table(("..a/b..c/.d/e..", "a", "train"))) == 1


def test_an_empty_or_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one sample.*got 0 paths, 0 identities and 0 splits"):
        Manifest(ROOT, (), (), ())
    with pytest.raises(ValueError, match="got 2 paths, 1 identities and 2 splits"):
        Manifest(ROOT, ("1", "2"), ("a",), ("train", "train"))


@given(identities=st.integers(3, 12), data=st.data(), seed=st.integers(0, 2**40))
def test_holding_out_moves_whole_identities_and_nothing_else(identities: int, data: st.DataObject, seed: int) -> None:
    wanted = data.draw(st.integers(1, identities - 2))
    before = crowd(identities)
    after = before.hold_out(wanted, seed)
    assert (after.paths, after.identities, after.root) == (before.paths, before.identities, before.root)
    assert after.subset("validation").num_classes == wanted
    assert after.subset("train").num_classes == identities - wanted
    assert after == before.hold_out(wanted, seed)


def test_the_seed_decides_who_is_held_out_and_test_identities_never_are() -> None:
    people = [(f"p{i:02}", "train" if i < 20 else "test") for i in range(40)]
    manifest = table(*[(f"{name}/{j}", name, split) for name, split in people for j in range(2)])
    chosen = {manifest.hold_out(5, seed).subset("validation").names for seed in range(5)}
    assert len(chosen) == 5
    assert all(name < "p20" for names in chosen for name in names)


def test_too_few_remaining_identities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"holding out 4 of 5 train identities .* validation_identities to at most 3"):
        crowd(5).hold_out(4, 0)
    with pytest.raises(ValueError, match=r"hold_out.identities must be an integer >= 1, got 0"):
        crowd(5).hold_out(0, 0)
    with pytest.raises(ValueError, match=r"hold_out.seed must be an integer >= 0, got -1"):
        crowd(5).hold_out(1, -1)


def test_a_manifest_with_validation_identities_keeps_them() -> None:
    with pytest.raises(ValueError, match="has validation identities of its own: set validation_identities to 0"):
        crowd(5).hold_out(1, 0).hold_out(1, 0)
