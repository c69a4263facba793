"""Score normalisation beside a slow twin that loops over trials, written from the definitions."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qmargin.scoring import score_norm
from qmargin.scoring.directions import unit_vectors
from qmargin.scoring.score_norm import ScoreNorm, normalise_scores
from qmargin.scoring.trial_cosine import trial_cosines

Vectors = NDArray[np.float32]
Arrays = tuple[Vectors, Vectors, NDArray[Any], NDArray[Any], Vectors]
NORMS = [
    ScoreNorm(variant="s-norm"),
    ScoreNorm(variant="s-norm", ddof=1),
    ScoreNorm(variant="as-norm1", top_n=7),
    ScoreNorm(variant="as-norm1", top_n=30, ddof=1),
    ScoreNorm(variant="as-norm2", top_n=7),
    ScoreNorm(variant="as-norm2", top_n=30, ddof=1),
]


def make(seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    unit = unit_vectors(generator.normal(size=(20, 6)).astype(np.float32))
    cohort = unit_vectors(generator.normal(size=(30, 6)).astype(np.float32))
    first, second = generator.integers(18, size=(2, 100))  # two utterances are in no trial
    return trial_cosines(unit, first, second), unit, first, second, cohort


def twin(scores: Any, unit: Any, first: Any, second: Any, cohort: Any, norm: ScoreNorm) -> list[float]:
    """Trial by trial, with the whole ranking of the cohort."""
    result = []
    for score, e, t in zip(scores, first, second, strict=True):
        of_e, of_t = cohort.astype(float) @ unit[e], cohort.astype(float) @ unit[t]
        like_e, like_t = np.argsort(-of_e, kind="stable"), np.argsort(-of_t, kind="stable")
        if norm.variant == "as-norm2":
            like_e, like_t = like_t, like_e
        z = [
            (score - values[ranking[: norm.top_n]].mean()) / values[ranking[: norm.top_n]].std(ddof=norm.ddof)
            for values, ranking in ((of_e, like_e), (of_t, like_t))
        ]
        result.append(sum(z) / 2)
    return result


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_every_variant_equals_the_loop_over_trials(norm: ScoreNorm, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = make()
    monkeypatch.setattr(score_norm, "BLOCK_ROWS", 4)  # several blocks, the last one short
    np.testing.assert_allclose(normalise_scores(*trials, norm), twin(*trials, norm), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_the_order_of_trials_does_not_matter(norm: ScoreNorm) -> None:
    scores, unit, first, second, cohort = make()
    order = np.random.default_rng(1).permutation(len(scores))
    turned = normalise_scores(scores[order], unit, first[order], second[order], cohort, norm)
    assert np.array_equal(turned, normalise_scores(scores, unit, first, second, cohort, norm)[order])


def test_the_two_sides_may_be_swapped() -> None:
    scores, unit, first, second, cohort = make()
    norm = ScoreNorm(variant="as-norm2", top_n=5)
    there, back = (normalise_scores(scores, unit, *sides, cohort, norm) for sides in ((first, second), (second, first)))
    np.testing.assert_allclose(there, back, rtol=1e-6)


def test_ties_at_the_last_place_go_to_the_earlier_member() -> None:
    unit = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    cohort = np.array(
        [[0.6, 0.8], [0.6, -0.8], [1, 0], [0, 1], [-1, 0]], dtype=np.float32
    )  # two members equally like utterance 0
    trials = np.full(1, 0.6, dtype=np.float32), unit, np.array([1]), np.array([0]), cohort
    norm = ScoreNorm(variant="as-norm2", top_n=2)
    np.testing.assert_allclose(normalise_scores(*trials, norm), twin(*trials, norm), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "asnorm"}, "variant must be one of s-norm, as-norm1, as-norm2, got 'asnorm'"),
        ({"variant": "s-norm", "ddof": 2}, "ddof must be 0"),
        ({"variant": "s-norm", "top_n": 5}, "s-norm takes the whole cohort and no top_n"),
        ({"variant": "as-norm1"}, "as-norm needs one"),
        ({"variant": "as-norm1", "top_n": 1}, "top_n must be at least 2"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreNorm(**fields)


def test_cohorts_that_cannot_serve_are_refused() -> None:
    scores, unit, first, second, cohort = make()
    norm = ScoreNorm(variant="as-norm1", top_n=31)
    with pytest.raises(ValueError, match="cohort must hold at least 31 members, got 30"):
        normalise_scores(scores, unit, first, second, cohort, norm)
    with pytest.raises(ValueError, match=r"cohort \(30, 5\) and embeddings \(20, 6\) must share the dimension"):
        normalise_scores(scores, unit, first, second, cohort[:, :5], norm)
    same = np.repeat(cohort[:1], 40, axis=0)
    for variant in ("as-norm1", "as-norm2"):
        with pytest.raises(ValueError, match=r"the cohort scores of utterance \d+ do not vary"):
            normalise_scores(scores, unit, first, second, same, ScoreNorm(variant=variant, top_n=31))
