from itertools import pairwise

import pytest

from qmargin.training.schedule import DECAYS, learning_rate


@pytest.mark.parametrize("decay", DECAYS)
def test_the_rate_rises_to_its_peak_and_never_above(decay: str) -> None:
    final = 1e-4 if decay == "exponential" else None
    rates = [learning_rate(step, 100, peak=0.2, warmup=0.1, decay=decay, final=final) for step in range(100)]
    assert rates[:10] == pytest.approx([0.02 * (step + 1) for step in range(10)])
    assert max(rates) == pytest.approx(0.2)
    assert all(rate > 0 for rate in rates)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


def test_linear_and_cosine_decay_reach_half_at_the_middle() -> None:
    for decay in ("linear", "cosine"):
        assert learning_rate(50, 100, peak=1.0, warmup=0.0, decay=decay) == pytest.approx(0.5)
    assert learning_rate(99, 100, peak=1.0, warmup=0.0, decay="constant") == 1.0


def test_exponential_decay_divides_alike_in_equal_times_and_ends_at_its_last_rate() -> None:
    rates = [learning_rate(step, 100, 0.1, 0.0, "exponential", final=1e-5) for step in (0, 25, 50, 75, 100)]
    assert rates == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
