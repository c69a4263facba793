import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmargin.data import ShuffledBatches
from qmargin.data.sampling import Indices


@st.composite
def orders(draw: st.DrawFn) -> list[ShuffledBatches]:
    """The orders of all ranks."""
    ranks = draw(st.integers(1, 4))
    batch = draw(st.integers(1, 6))
    samples = draw(st.integers(ranks * batch, ranks * batch * 5))
    seed = draw(st.integers(0, 2**40))
    return [ShuffledBatches(samples, batch, seed, rank, ranks) for rank in range(ranks)]


@given(ranks=orders(), epoch=st.integers(0, 5))
def test_an_epoch_visits_no_sample_twice_on_no_two_ranks(ranks: list[ShuffledBatches], epoch: int) -> None:
    steps = ranks[0].steps_per_epoch
    batches = [order[step] for step in range(epoch * steps, (epoch + 1) * steps) for order in ranks]
    visited = np.concatenate(batches)
    assert all(batch.shape == (ranks[0].batch_size,) and batch.dtype == np.int64 for batch in batches)
    assert len(np.unique(visited)) == len(visited)
    assert visited.min() >= 0
    assert visited.max() < ranks[0].samples
    assert ranks[0].samples - len(visited) < len(ranks) * ranks[0].batch_size


@given(ranks=orders(), steps=st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_a_batch_depends_on_seed_and_step_only(ranks: list[ShuffledBatches], steps: list[int]) -> None:
    for order in ranks:
        asked_in_any_order = [order[step] for step in steps]
        for step, batch in zip(steps, asked_in_any_order, strict=True):
            fresh = ShuffledBatches(order.samples, order.batch_size, order.seed, order.rank, order.world_size)
            np.testing.assert_array_equal(fresh[step], batch)


def test_ranks_share_the_work_of_one_larger_batch() -> None:
    whole = ShuffledBatches(50, 12, seed=3)
    parts = [ShuffledBatches(50, 4, seed=3, rank=rank, world_size=3) for rank in range(3)]
    for step in range(9):
        np.testing.assert_array_equal(np.concatenate([part[step] for part in parts]), whole[step])


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(ShuffledBatches(30, 30, seed)[epoch]) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_every_sample_comes_equally_often_in_the_long_run() -> None:
    order = ShuffledBatches(10, 4, seed=0)
    counts = np.bincount(np.concatenate([order[step] for step in range(2 * 400)]), minlength=10)
    assert counts.min() > 270  # 320 expected, standard deviation 8
    assert counts.max() < 370


def test_workers_on_both_sides_of_an_epochs_end_do_not_draw_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = ShuffledBatches._draw

    def counted(order: ShuffledBatches, generator: np.random.Generator) -> Indices:
        drawn.append(threading.get_ident())
        time.sleep(0.02)  # time for the others to come
        return draw(order, generator)

    monkeypatch.setattr(ShuffledBatches, "_draw", counted)
    order = ShuffledBatches(60, 10, seed=0)
    steps = [5, 6, 4, 7, 5, 8, 5, 6] * 3
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(order.__getitem__, steps))
    assert len(drawn) == 2
    for step, batch in zip(steps, found, strict=True):
        np.testing.assert_array_equal(batch, ShuffledBatches(60, 10, seed=0)[step])


def test_a_batch_can_be_written_to_without_harm() -> None:
    order = ShuffledBatches(10, 4, seed=0)
    first = order[0].copy()
    order[0][:] = -1
    np.testing.assert_array_equal(order[0], first)


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"a step takes 12 samples \(batch_size 4 on 3 ranks\), there are 11: set .* 3"
    ):
        ShuffledBatches(11, 4, seed=0, rank=0, world_size=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples must be an integer >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"rank": -1}, "rank must be an integer >= 0, got -1"),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size 2, got 2"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=rf"ShuffledBatches.{message}"):
        ShuffledBatches(**{"samples": 10, "batch_size": 2, "seed": 0, **arguments})


def test_steps_count_from_zero() -> None:
    with pytest.raises(ValueError, match=r"step must be an integer >= 0, got -1"):
        ShuffledBatches(10, 2, 0)[-1]


def test_a_state_is_accepted_by_the_same_order_at_any_step_and_rank() -> None:
    state = ShuffledBatches(10, 2, seed=7, rank=1, world_size=2).state_dict(5)
    assert state == {"step": 5, "samples": 10, "batch_size": 2, "seed": 7, "world_size": 2}
    ShuffledBatches(10, 2, seed=7, rank=0, world_size=2).check_state(state)


@pytest.mark.parametrize("name", ["samples", "batch_size", "seed", "world_size"])
def test_a_state_of_another_order_is_refused_by_the_field(name: str) -> None:
    arguments = {"samples": 10, "batch_size": 2, "seed": 7, "world_size": 2}
    state = ShuffledBatches(**arguments).state_dict(0)
    other = ShuffledBatches(**{**arguments, name: arguments[name] + 1})
    message = rf"with {name} {arguments[name]}, this one has {name} {arguments[name] + 1}: .* or start anew"
    with pytest.raises(ValueError, match=message):
        other.check_state(state)
    del state[name]
    with pytest.raises(ValueError, match=f"has no {name}: it is damaged, or of another version"):
        ShuffledBatches(**arguments).check_state(state)
