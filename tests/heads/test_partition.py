"""Which rank owns which classes: every class once, in order, as torch and DTensor cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qmargin.heads.partition import Partition


@given(st.integers(1, 500), st.integers(1, 40))
def test_every_class_has_one_owner_and_shards_are_those_of_torch(classes: int, ranks: int) -> None:
    pieces = torch.arange(classes).chunk(ranks)
    if len(pieces) < ranks:
        with pytest.raises(ValueError, match=f"use at most {len(pieces)} ranks"):
            Partition(classes, ranks)
        return
    partition = Partition(classes, ranks)
    assert [list(partition.of(rank)) for rank in range(ranks)] == [piece.tolist() for piece in pieces]
    assert partition.sizes == [len(piece) for piece in pieces]
    owner = partition.owner(torch.arange(classes)).tolist()
    assert all(label in partition.of(rank) for label, rank in enumerate(owner))


def test_a_rank_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 classes in blocks of 2 do not reach the last of 4 ranks; use at most 3"):
        Partition(5, 4)
