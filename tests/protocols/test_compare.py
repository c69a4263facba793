from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qmargin.metrics import eer, paired_subject_bootstrap
from qmargin.metrics.eer import eer_of
from qmargin.protocols import Comparison, ScoredRun, Trials, compare

MakeTrials = Callable[[float, int], Trials]


def scored(make_trials: MakeTrials, system: str, seed: int, noise: float) -> ScoredRun:
    return ScoredRun(
        path=f"runs/{system}-{seed}",
        seed=seed,
        system=system,
        setting=f"loss of {system}",
        settings={"loss": system, "seed": str(seed), "epochs": "3"},
        trials=make_trials(noise, seed),
        support_steps=[1, 2],
        support=[9.0, 3.0 + seed],
    )


@pytest.fixture
def runs(make_trials: MakeTrials) -> list[ScoredRun]:
    return [scored(make_trials, name, seed, noise) for name, noise in (("good", 1.2), ("bad", 1.8)) for seed in (0, 1)]


def compared(runs: list[ScoredRun], baseline: str = "bad") -> Comparison:
    return compare(runs, baseline, differing_field="loss", title="t", provenance={"command": "x"}, resamples=100)


def test_seeds_are_averaged_and_their_spread_is_kept(runs: list[ScoredRun]) -> None:
    good, bad = compared(runs).systems
    rates = [eer(run.trials.scores, run.trials.labels) for run in runs[:2]]
    assert good.estimates["EER"].mean == pytest.approx(np.mean(rates))
    assert good.estimates["EER"].spread == pytest.approx(np.std(rates, ddof=1))
    assert good.seeds == bad.seeds == (0, 1)
    assert good.final_support.mean == 3.5
    assert (good.final_support.low, good.final_support.high) == (3.0, 4.0)


def test_differences_are_paired_and_of_the_baseline_there_are_none(runs: list[ScoredRun]) -> None:
    good, bad = compared(runs).systems
    expected = paired_subject_bootstrap(
        np.stack([run.trials.scores for run in runs[:2]]),
        np.stack([run.trials.scores for run in runs[2:]]),
        runs[0].trials.labels,
        runs[0].trials.subjects,
        eer_of,
        higher_is_better=False,
        resamples=100,
    )
    assert bad.differences == {}
    assert good.differences["EER"].mean == expected.difference < 0
    assert (good.differences["EER"].low, good.differences["EER"].high) == (expected.low, expected.high)
    assert good.differences["EER"].won == expected.won > 0.9


def test_histograms_share_their_edges_and_sum_to_one(runs: list[ScoredRun]) -> None:
    good, bad = compared(runs).systems
    assert np.array_equal(good.histogram.edges, bad.histogram.edges)
    assert good.histogram.genuine.sum() == pytest.approx(1.0)
    assert good.histogram.impostor.sum() == pytest.approx(1.0)


def test_shared_settings_and_counts_are_kept_and_few_false_accepts_are_told(runs: list[ScoredRun]) -> None:
    comparison = compared(runs)
    assert comparison.shared_settings == {"epochs": "3"}
    assert (comparison.subjects, comparison.genuine, comparison.impostor) == (12, 120, 1650)
    assert any("TAR@FAR=1e-03 rest on fewer than 30 false accepts" in note for note in comparison.notes)


def test_one_seed_has_no_spread(runs: list[ScoredRun]) -> None:
    assert compared([runs[0], runs[2]]).systems[0].estimates["EER"].spread is None


def test_what_cannot_be_compared_is_refused(runs: list[ScoredRun]) -> None:
    with pytest.raises(ValueError, match=r"needs at least one run"):
        compared([])
    with pytest.raises(ValueError, match=r"the baseline 'worse' is none of the compared systems: bad, good"):
        compared(runs, "worse")
    other = replace(runs[1], trials=replace(runs[1].trials, digest="other"))
    with pytest.raises(ValueError, match=r"system 'good' has a seed twice: 0, 0"):
        compared([runs[0], runs[0]], "good")
    longer = replace(runs[1], settings={**runs[1].settings, "epochs": "9"})
    with pytest.raises(ValueError, match=r"are both named 'good' but differ in seed, epochs: only seeds are averaged"):
        compared([runs[0], longer], "good")
    with pytest.raises(ValueError, match=r"runs/good-1 and runs/good-0 were scored on different trials"):
        compared([runs[0], other], "good")
