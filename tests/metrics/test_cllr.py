"""Cllr and minCllr beside their definitions, scikit-learn's isotonic regression, and the laws that bind them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from qmargin.metrics import cllr, min_cllr
from qmargin.metrics._validate import Floats, Mask

rows = st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=2, max_size=60).filter(
    lambda trials: len({label for _, label in trials}) == 2
)


def literal_cllr(llr: Floats, genuine: Mask) -> float:
    of_genuine = np.mean([np.log2(1 + np.exp(-value)) for value in llr[genuine]])
    of_impostor = np.mean([np.log2(1 + np.exp(value)) for value in llr[~genuine]])
    return float(of_genuine + of_impostor) / 2


def isotonic_min_cllr(scores: Floats, genuine: Mask) -> float:
    """By the peer's pooling of adjacent violators: posteriors of each score, then ratios at the list's own prior."""
    posterior = IsotonicRegression().fit_transform(scores, genuine.astype(float))
    with np.errstate(divide="ignore"):
        llr = np.log(posterior) - np.log1p(-posterior) - np.log(genuine.sum() / (~genuine).sum())
    return literal_cllr(llr, genuine)


def draw(trials: int, seed: int = 0) -> tuple[Floats, NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    genuine = generator.random(trials) < 0.2
    return generator.normal(size=trials) + 2.0 * genuine, genuine


def test_cllr_is_its_definition() -> None:
    scores, genuine = draw(3000)
    assert cllr(scores, genuine) == pytest.approx(literal_cllr(scores, genuine), abs=1e-12)
    rounded = scores.round(1)
    assert cllr(rounded, genuine) == pytest.approx(literal_cllr(rounded, genuine), abs=1e-12)


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_the_least_cllr_equals_isotonic_regression(decimals: int) -> None:
    scores, genuine = draw(3000)
    scores = scores.round(decimals)
    assert min_cllr(scores, genuine) == pytest.approx(isotonic_min_cllr(scores, genuine), abs=1e-9)


@given(rows)
def test_laws(trials: list[tuple[int, bool]]) -> None:
    scores, genuine = np.array([score for score, _ in trials]) / 4.0, np.array([label for _, label in trials])
    least = min_cllr(scores, genuine)
    assert 0.0 <= least <= 1.0 + 1e-12
    assert least <= cllr(scores, genuine) + 1e-12
    assert min_cllr(np.exp(scores), genuine) == pytest.approx(least, abs=1e-12)  # any rising map
    assert least == pytest.approx(isotonic_min_cllr(scores, genuine), abs=1e-9)
    order = np.random.default_rng(0).permutation(len(scores))
    assert min_cllr(scores[order], genuine[order]) == least
    assert cllr(scores[order], genuine[order]) == cllr(scores, genuine)


def test_ends() -> None:
    assert min_cllr([1, 2, 3, 4], [0, 0, 1, 1]) == 0.0
    assert min_cllr([1, 2, 3, 4], [1, 1, 0, 0]) == pytest.approx(1.0)
    assert cllr(np.zeros(5), [0, 1, 0, 1, 1]) == 1.0
    assert cllr([800.0, -800.0], [0, 1]) == pytest.approx(800 / np.log(2))  # no overflow
    with pytest.raises(ValueError, match="scores must be finite"):
        cllr([np.inf, 0.0], [1, 0])
