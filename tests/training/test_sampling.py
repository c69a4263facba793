import numpy as np
import pytest

from qmargin.data import ShuffledBatches
from qmargin.training.sampling import BalancedBatches, training_order

COUNTS = (120, 40, 7, 1, 32)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))  # 200 samples, not sorted


def epoch(order: ShuffledBatches, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
    return np.concatenate([order[step] for step in steps])


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_classes_are_drawn_by_a_power_of_their_size(balance: float) -> None:
    order = BalancedBatches(LABELS, 20, 3, balance)
    share = np.array(COUNTS) ** (1 - balance)
    expected = 200 * share / share.sum()
    drawn = np.stack([np.bincount(LABELS[epoch(order, number)], minlength=5) for number in range(60)])
    assert (np.abs(drawn - expected) < 1 + 1e-9).all()  # every epoch is within one draw of the mean
    assert np.abs(drawn.mean(0) - expected).max() < 0.3


def test_no_image_is_shown_again_before_all_of_its_class_were() -> None:
    order = BalancedBatches(LABELS, 20, 3, 1.0)
    for number in range(5):
        shown = np.bincount(epoch(order, number), minlength=200)
        for label in range(5):
            own = shown[label == LABELS]
            assert own.max() - own.min() <= 1


def test_without_balance_an_epoch_is_a_permutation() -> None:
    assert sorted(epoch(BalancedBatches(LABELS, 20, 3, 0.0), 4)) == list(range(200))


def test_the_order_is_a_function_of_seed_and_step() -> None:
    order = BalancedBatches(LABELS, 20, 3, 0.7)
    steps = [order[step].tolist() for step in range(25)]
    again = BalancedBatches(LABELS, 20, 3, 0.7)
    assert [again[step].tolist() for step in (24, 0, 11)] == [steps[24], steps[0], steps[11]]
    assert BalancedBatches(LABELS, 20, 4, 0.7)[0].tolist() != steps[0]
    assert sorted(steps[0]) != sorted(steps[10])
    ranks = [BalancedBatches(LABELS, 10, 3, 0.7, rank, 2) for rank in (0, 1)]
    assert [*ranks[0][5], *ranks[1][5]] == steps[5]


def test_a_state_of_another_balance_is_refused() -> None:
    state = BalancedBatches(LABELS, 20, 3, 0.5).state_dict(7)
    BalancedBatches(LABELS, 20, 3, 0.5).check_state(state)
    with pytest.raises(ValueError, match=r"made with balance_permille 500, this one has balance_permille 700"):
        BalancedBatches(LABELS, 20, 3, 0.7).check_state(state)


def test_a_balance_that_is_none_is_refused_and_zero_is_the_plain_order() -> None:
    with pytest.raises(ValueError, match=r"BalancedBatches.balance must be in \[0, 1\], got 1.5"):
        BalancedBatches(LABELS, 20, 3, 1.5)
    assert type(training_order(LABELS, 20, 3, 0.0)) is ShuffledBatches
    assert type(training_order(LABELS, 20, 3, 0.1)) is BalancedBatches
