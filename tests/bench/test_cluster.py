"""Formulas over ranks by hand; tests/heads/sharded_cases.py compares the bytes with those of real steps."""

from dataclasses import replace

import pytest

from qmargin.bench.cluster import sharded, sharded_dense, sharded_partial_fc
from qmargin.bench.plan import Problem, dense

PROBLEM = Problem(classes=10_000_000, dim=512, batch=1024, support=400.0, update="lazy")
HEADS = [sharded, sharded_dense, sharded_partial_fc]


@pytest.mark.parametrize("head", HEADS)
def test_one_rank_sends_nothing(head: object) -> None:
    assert callable(head)
    assert head(PROBLEM, 1).bytes_sent == 0


@pytest.mark.parametrize("head", HEADS)
def test_bytes_do_not_depend_on_the_number_of_classes(head: object) -> None:
    assert callable(head)
    assert head(PROBLEM, 8).sent == head(replace(PROBLEM, classes=10**8), 8).sent


def test_bytes_by_hand() -> None:
    sent = sharded(PROBLEM, 8).sent
    assert sent["directions"] == sent["gradients of directions"] == 4 * 128 * 512 * 7
    assert sent["candidates"] == 8 * 1024 * 400 / 8 * 7
    assert sent["sums and maxima"] == 4 * 28 * 1024 * 2 * 7 / 8
    assert sharded(replace(PROBLEM, alpha=1.0), 8).sent["sums and maxima"] == 4 * 4 * 1024 * 2 * 7 / 8


def test_a_rank_computes_and_keeps_its_block_for_all_rows() -> None:
    rank, whole = sharded_dense(PROBLEM, 8).cost, dense(PROBLEM)
    assert rank.memory["prototypes"] == whole.memory["prototypes"] / 8
    assert rank.flops == pytest.approx(whole.flops / 8)
    assert rank.memory["rows of all ranks"] == 2 * 4 * 1024 * 512


def test_shards_take_less_memory_the_more_there_are() -> None:
    sizes = [sharded(PROBLEM, ranks).cost.total for ranks in (1, 2, 8, 64)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] / sizes[3] > 40
