"""EER and minDCF beside the computations in public use: the same on untied scores, and not on tied ones."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from qmargin.metrics import eer, min_dcf
from qmargin.metrics._validate import Floats, Mask

PRIORS = (0.05, 0.01, 0.001)


def untied(seed: int, trials: int = 5000) -> tuple[Floats, Mask]:
    generator = np.random.default_rng(seed)
    genuine = generator.random(trials) < 0.1
    return generator.normal(size=trials) + 2.5 * genuine, genuine


def sklearn_eer(scores: Floats, genuine: Mask) -> float:
    """Mean of both rates where they are nearest; of two such points the mean."""
    far, tpr, _ = roc_curve(genuine, scores, drop_intermediate=False)
    apart = np.abs(far - (1 - tpr))
    return float(np.mean([(far[k] + 1 - tpr[k]) / 2 for k in np.flatnonzero(apart <= apart.min() + 1e-15)]))


def sklearn_min_dcf(scores: Floats, genuine: Mask, prior: float) -> float:
    far, tpr, _ = roc_curve(genuine, scores, drop_intermediate=False)
    return float((prior * (1 - tpr) + (1 - prior) * far).min() / min(prior, 1 - prior))


def sweep(scores: Floats, genuine: Mask) -> tuple[list[float], list[float]]:
    """Rates as Kaldi's script makes them: sorted trials, one threshold AFTER each, ties in the order of the list."""
    ranking = np.argsort(scores, kind="stable")
    missed, accepted = 0, int((~genuine).sum())
    frr, far = [], []
    for trial in ranking:
        missed += int(genuine[trial])
        accepted -= int(not genuine[trial])
        frr.append(missed / genuine.sum())
        far.append(accepted / (~genuine).sum())
    return frr, far


def kaldi_min_dcf(scores: Floats, genuine: Mask, prior: float) -> float:
    frr, far = sweep(scores, genuine)
    costs = [prior * miss + (1 - prior) * accept for miss, accept in zip(frr, far, strict=True)]
    return float(min(costs) / min(prior, 1 - prior))


def kaldi_eer(scores: Floats, genuine: Mask) -> float:
    """The sweep's points, read by the rule of `eer`."""
    frr, far = (np.array(rates) for rates in sweep(scores, genuine))
    apart = np.abs(far - frr)
    return float(np.mean((far + frr)[apart <= apart.min() + 1e-15]) / 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("peer", [sklearn_eer, kaldi_eer])
def test_eer_agrees_on_untied_scores(peer: Callable[[Floats, Mask], float], seed: int) -> None:
    trials = untied(seed)
    assert eer(*trials) == pytest.approx(peer(*trials), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("peer", [sklearn_min_dcf, kaldi_min_dcf])
def test_min_dcf_agrees_on_untied_scores(peer: Callable[[Floats, Mask, float], float], prior: float, seed: int) -> None:
    trials = untied(seed)
    assert min_dcf(*trials, prior) == pytest.approx(peer(*trials, prior), abs=1e-9)


def test_ties_make_the_sweep_depend_on_the_order_and_nothing_here() -> None:
    scores, genuine = untied(0)
    scores = scores.round(0)
    last, first = np.argsort(genuine, kind="stable"), np.argsort(~genuine, kind="stable")
    assert kaldi_min_dcf(scores[first], genuine[first], 0.05) > kaldi_min_dcf(scores[last], genuine[last], 0.05) + 0.01
    for order in (first, last, np.random.default_rng(0).permutation(len(scores))):
        assert eer(scores[order], genuine[order]) == eer(scores, genuine)
        assert all(min_dcf(scores[order], genuine[order], p) == min_dcf(scores, genuine, p) for p in PRIORS)
