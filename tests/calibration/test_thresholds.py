"""Thresholds for a wanted FAR: kept on the calibration trials, refused where they cannot be, read back whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from qmargin.calibration import Thresholds, load_thresholds, thresholds_for


def learn(*fars: float, trials: int = 20_000) -> Thresholds:
    generator = np.random.default_rng(0)
    subjects = generator.integers(50, size=(trials, 2))
    subjects[: trials // 5, 1] = subjects[: trials // 5, 0]
    labels = subjects[:, 0] == subjects[:, 1]
    scores = generator.normal(size=trials) + 3 * labels
    return thresholds_for(scores, labels, subjects, fars, step=7, split="validation")


def test_a_threshold_keeps_its_far_and_the_next_lower_score_does_not() -> None:
    found = learn(1e-2, 1e-3)
    assert [point.far_wanted for point in found.points] == [1e-3, 1e-2]
    for point in found.points:
        assert point.far <= point.far_wanted < (point.false_accepts + 1) / point.impostors
    assert found.at(1e-3).threshold > found.at(1e-2).threshold
    assert (found.subjects, found.step, found.split) == (50, 7, "validation")


def test_a_threshold_on_few_false_accepts_says_so() -> None:
    found = learn(1e-1, 1e-3)
    assert "impostor trials accepted)" in found.at(1e-1).describe()
    assert not found.at(1e-1).few
    assert "fewer than 30: the FAR with other people may be far off" in found.at(1e-3).describe()


def test_a_far_that_the_trials_cannot_show_is_refused() -> None:
    with pytest.raises(ValueError, match="TAR at FAR 1e-06 needs at least 1000000 impostor trials, got "):
        learn(1e-6)
    with pytest.raises(ValueError, match="no FAR was asked"):
        learn()
    with pytest.raises(ValueError, match=r"no threshold was learned for FAR 0.0001, only for 0.001: .* --far 0.0001"):
        learn(1e-3).at(1e-4)


def test_a_collapsed_model_has_no_threshold() -> None:
    labels = np.arange(100) < 20
    subjects = np.stack([np.zeros(100, dtype=int), np.where(labels, 0, 1)], axis=1)
    with pytest.raises(ValueError, match=r"no score keeps FAR 0.1: too many impostor trials share the highest score"):
        thresholds_for(np.ones(100), labels, subjects, [0.1], step=1, split="validation")


def test_thresholds_survive_the_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    found = learn(1e-2)
    path = tmp_path / "thresholds.json"
    with pytest.raises(ValueError, match=r"no thresholds at .*: learn them with qmargin threshold"):
        load_thresholds(path)
    found.save(path)
    assert load_thresholds(path) == found
    content = json.loads(path.read_text())
    content["points"][0]["threshold"] = float("nan")
    for damaged in (json.dumps(content), path.read_text()[:40], "[]"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="holds no thresholds"):
            load_thresholds(path)
