"""Prior-weighted logistic regression beside scikit-learn's, and what must be refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from qmargin.calibration import calibrate, load_calibration, quality_columns
from qmargin.metrics import act_dcf, cllr, min_cllr, min_dcf

Floats = NDArray[np.float64]


def draw(seed: int = 0, trials: int = 4000) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    labels = generator.random(trials) < 0.3
    noise = generator.uniform(0.5, 2.0, size=trials)
    scores = 0.1 + 0.08 * (labels * 4.0 + noise * generator.normal(size=trials))
    return {"score": scores, "noise": noise}, labels


@pytest.mark.parametrize("prior", [0.5, 0.01])
@pytest.mark.parametrize("names", [["score"], ["score", "noise"]])
def test_weights_equal_those_of_scikit_learn(names: list[str], prior: float) -> None:
    columns, labels = draw()
    chosen = {name: columns[name] for name in names}
    found = calibrate(chosen, labels, prior=prior, source="test")
    shares = np.where(labels, prior / labels.sum(), (1 - prior) / (~labels).sum()) * len(labels)
    peer = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    peer.fit(np.stack(list(chosen.values()), axis=1), labels, sample_weight=shares)
    np.testing.assert_allclose(found.weights, peer.coef_[0], rtol=1e-6)
    assert found.offset == pytest.approx(peer.intercept_[0] - np.log(prior / (1 - prior)), rel=1e-6)
    assert (found.genuine, found.impostor, found.prior) == (labels.sum(), (~labels).sum(), prior)


def test_calibrated_scores_cost_little_more_than_the_least_on_new_trials() -> None:
    columns, labels = draw(0)
    found = calibrate(columns, labels, prior=0.01, source="test")
    fresh, truth = draw(1)
    llr = found(fresh)
    assert cllr(llr, truth) < min_cllr(llr, truth) + 0.05
    assert act_dcf(llr, truth, 0.01) < min_dcf(llr, truth, 0.01) + 0.1
    assert cllr(fresh["score"], truth) > 0.7  # as cosines, they are no ratios


def test_the_share_of_genuine_trials_does_not_matter() -> None:
    columns, labels = draw()
    repeated = np.concatenate([np.arange(len(labels)), *[np.flatnonzero(labels)] * 3])
    once = calibrate(columns, labels, source="test")
    thrice = calibrate({n: c[repeated] for n, c in columns.items()}, labels[repeated], source="test")
    np.testing.assert_allclose(once.weights, thrice.weights, rtol=1e-8)
    assert once.offset == pytest.approx(thrice.offset, rel=1e-8)


def test_a_calibration_survives_the_round_trip_and_is_held_to_its_columns(tmp_path: Path) -> None:
    columns, labels = draw()
    found = calibrate(columns, labels, source="test")
    path = tmp_path / "calibration.json"
    found.save(path)
    loaded = load_calibration(path)
    assert loaded == found
    assert np.array_equal(loaded(columns), found(columns))
    with pytest.raises(ValueError, match="maps the columns score, noise, got score"):
        loaded({"score": columns["score"]})
    path.write_text('{"columns": ["score"], "weights": []}')
    with pytest.raises(ValueError, match=r"calibration\.json holds no calibration \(.*qmargin calibrate"):
        load_calibration(path)
    found.save(path)
    path.write_text(path.read_text().replace('"noise"', '"noise", "more"'))
    with pytest.raises(ValueError, match="holds no calibration: not one finite weight for each column"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("columns", "labels", "options", "message"),
    [
        ({"score": [0.1, 0.2, 0.3, 0.4]}, [0, 0, 1, 1], {}, "the scores separate genuine from impostor trials"),
        ({"score": [0.1, 0.2, 0.2, 0.4]}, [0, 0, 1, 1], {}, "the scores separate"),
        ({"score": [0.5, 0.5, 0.5, 0.5]}, [0, 1, 0, 1], {}, "column 'score' is 0.5 in every trial"),
        ({"score": [0.5, np.nan, 0.1, 0.2]}, [0, 1, 0, 1], {}, "column 'score' must be finite, trial 1 is not"),
        ({"score": [0.5, 0.1, 0.2]}, [0, 1, 0, 1], {}, r"column 'score' must have shape \(4,\)"),
        ({"score": [1, 3, 2, 4], "b": [2, 6, 4, 8]}, [0, 1, 1, 0], {}, "columns score, b repeat each other"),
        ({"score": [1, 3, 2, 4]}, [1, 1, 1, 1], {}, "needs genuine and impostor trials, got 4 of one class"),
        ({"score": [1, 3, 2, 4]}, [1, 2, 1, 1], {}, "labels must be one 0"),
        ({"score": [1, 3, 2, 4]}, [0, 1, 1, 0], {"prior": 1.0}, r"prior must be in \(0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(columns: Any, labels: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(columns, labels, source="test", **options)


def test_a_quality_measure_helps_where_it_should() -> None:
    generator = np.random.default_rng(0)
    seconds = generator.uniform(1, 20, size=300)
    first, second = generator.integers(300, size=(2, 6000))
    labels = generator.random(6000) < 0.5
    spread = 1.0 / np.sqrt(np.minimum(seconds[first], seconds[second]))
    scores = (labels - 0.5) * 2 + spread * generator.normal(size=6000) - 2 * spread  # short ones score low
    columns = {"score": scores, **quality_columns("duration", seconds, first, second)}
    half = slice(0, 3000), slice(3000, 6000)
    plain = calibrate({"score": scores[half[0]]}, labels[half[0]], source="test")
    fused = calibrate({n: c[half[0]] for n, c in columns.items()}, labels[half[0]], source="test")
    without = cllr(plain({"score": scores[half[1]]}), labels[half[1]])
    assert cllr(fused({n: c[half[1]] for n, c in columns.items()}), labels[half[1]]) < 0.9 * without
    mirrored = quality_columns("duration", seconds, second, first)
    assert all(np.array_equal(columns[name], column) for name, column in mirrored.items())
    seconds[4] = 0
    with pytest.raises(ValueError, match=r"duration must be finite and > 0, got 0.0 for utterance 4"):
        quality_columns("duration", seconds, first, second)
