from pathlib import Path

import numpy as np
import pytest

from qmargin.protocols import Trials, all_pairs
from qmargin.scoring import Embeddings


def embeddings(names: list[str], seed: int = 0) -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(len(names), 4)).astype(np.float32)
    return Embeddings(vectors, np.array(names), np.array([f"{i}.jpg" for i in range(len(names))]))


def test_every_unordered_pair_is_one_trial() -> None:
    trials = all_pairs(embeddings(["b", "a", "b"]))
    assert trials.subjects.tolist() == [[1, 0], [1, 1], [0, 1]]
    assert trials.labels.tolist() == [False, True, False]
    assert trials.scores.shape == (3,)


def test_the_digest_says_whether_two_sets_of_trials_may_be_paired() -> None:
    assert all_pairs(embeddings(["a", "a", "b"], 0)).digest == all_pairs(embeddings(["a", "a", "b"], 1)).digest
    assert all_pairs(embeddings(["a", "a", "b"])).digest != all_pairs(embeddings(["a", "b", "b"])).digest


@pytest.mark.parametrize("names", [["a", "a"], ["a", "b", "c"]])
def test_trials_of_one_class_only_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=f"got {len(names)} images of {len(set(names))} identities"):
        all_pairs(embeddings(names))


def test_trials_survive_the_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    trials = all_pairs(embeddings(["a", "a", "b", "b"]))
    trials.save(tmp_path / "s.npz")
    loaded = Trials.load(tmp_path / "s.npz")
    assert np.array_equal(loaded.scores, trials.scores)
    assert loaded.digest == trials.digest
    (tmp_path / "s.npz").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"s\.npz does not hold scores"):
        Trials.load(tmp_path / "s.npz")
    with pytest.raises(ValueError, match=r"no scores at .*run qmargin evaluate on that run first"):
        Trials.load(tmp_path / "none.npz")


def test_impostors_of_one_stratum_are_kept_with_all_genuine_pairs() -> None:
    trials = all_pairs(embeddings(["a", "a", "b", "c"]))
    kept = trials.within({0: "f", 1: "m", 2: "f"})
    assert trials.subjects[kept].tolist() == [[0, 0], [0, 2], [0, 2]]
    some = trials.where(kept, "gender")
    assert np.array_equal(some.scores, trials.scores[kept])
    assert some.labels.tolist() == [True, False, False]
    assert some.digest not in (trials.digest, trials.where(kept, "age").digest)
    with pytest.raises(ValueError, match=r"no impostor pair is .* the 3 people have 3 values; take a column with"):
        trials.within({0: "x", 1: "y", 2: "z"})
