from dataclasses import replace

import pytest

from qmargin.protocols.comparison import Comparison, Difference, Estimate
from qmargin.report._verdict import caveats, verdict

BETTER = Difference(mean=0.02, low=0.01, high=0.03, won=1.0)
WORSE = Difference(mean=-0.02, low=-0.03, high=-0.01, won=0.0)
SAME = Difference(mean=0.001, low=-0.01, high=0.012, won=0.6)


def _with(comparison: Comparison, cosface: dict[str, Difference], qmargin: dict[str, Difference]) -> Comparison:
    """Differences as given, `SAME` where none is; spreads of 0.005; plenty of false accepts."""
    estimate = Estimate(mean=0.9, spread=0.005, low=0.88, high=0.92)
    given = {"ArcFace": None, "CosFace": cosface, "Q-Margin": qmargin}
    systems = [
        replace(
            system,
            estimates={figure.name: estimate for figure in comparison.figures},
            differences={} if given[system.name] is None else _filled(comparison, given[system.name] or {}),
            false_accepts={},
        )
        for system in comparison.systems
    ]
    return replace(comparison, systems=tuple(systems))


def _filled(comparison: Comparison, given: dict[str, Difference]) -> dict[str, Difference]:
    return {figure.name: given.get(figure.name, SAME) for figure in comparison.figures}


def test_says_that_nothing_is_distinguishable(comparison: Comparison) -> None:
    assert verdict(_with(comparison, {}, {})) == (
        "No difference to ArcFace is distinguishable: the intervals of all 6 differences include 0."
    )


def test_says_that_the_only_difference_is_not_distinguishable(comparison: Comparison) -> None:
    both = _with(comparison, {}, {})
    one = replace(both, systems=both.systems[:2], figures=both.figures[:1])
    assert verdict(one) == (
        "No difference to ArcFace is distinguishable: the interval of the only difference includes 0."
    )


def test_names_who_is_better_and_worse_by_the_direction_of_the_figure(comparison: Comparison) -> None:
    found = verdict(_with(comparison, {"EER": BETTER}, {"EER": WORSE, "TAR@FAR=1e-02": BETTER}))
    assert found == (
        "CosFace is distinguishably worse than ArcFace in EER; Q-Margin is distinguishably better in TAR@FAR=1e-02 and "
        "EER; the other 3 differences are not distinguishable."
    )


def test_counts_where_a_list_would_be_too_long(comparison: Comparison) -> None:
    mixed = {"TAR@FAR=1e-02": BETTER, "TAR@FAR=1e-03": WORSE}
    assert verdict(_with(comparison, mixed, mixed)) == (
        "4 of 6 differences to ArcFace are distinguishable, 2 for the better and 2 for the worse; the other 2 "
        "differences are not distinguishable."
    )


def test_an_interval_that_ends_at_zero_is_not_distinguishable(comparison: Comparison) -> None:
    touching = replace(BETTER, low=0.0)
    assert verdict(_with(comparison, {"EER": touching}, {})).startswith("No difference")


def test_doubts_what_rests_on_little(comparison: Comparison) -> None:
    clear = _with(comparison, {}, {"TAR@FAR=1e-03": BETTER, "EER": replace(WORSE, mean=-0.004)})
    base = replace(clear.systems[0], false_accepts={"TAR@FAR=1e-03": 29.9})
    doubted = verdict(replace(clear, systems=(base, *clear.systems[1:])))
    assert (
        "(on fewer than 30 false accepts in 1 of these 2; no more than the spread over seeds in 1 of these 2)"
        in doubted
    )
    enough = replace(clear.systems[0], false_accepts={"TAR@FAR=1e-03": 30.0})
    assert "30 false accepts" not in verdict(replace(clear, systems=(enough, *clear.systems[1:])))


def test_one_system_is_not_compared(comparison: Comparison) -> None:
    alone = replace(comparison, systems=comparison.systems[:1])
    assert verdict(alone) == "Only ArcFace was evaluated: there is no other system to compare it with."


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_single_seed_is_a_caveat(comparison: Comparison, seeds: tuple[int, ...]) -> None:
    systems = [replace(system, seeds=seeds) for system in comparison.systems]
    found = " ".join(caveats(replace(comparison, systems=tuple(systems))))
    assert ("ArcFace, CosFace and Q-Margin: a single seed" in found) == (len(seeds) == 1)


def test_notes_come_first_and_many_intervals_are_a_caveat(comparison: Comparison) -> None:
    found = caveats(comparison)
    assert found[0] == comparison.notes[0]
    assert found[-1].startswith("The 6 intervals of differences are not corrected for their number")
    assert caveats(replace(comparison, systems=comparison.systems[:1])) == list(comparison.notes)
