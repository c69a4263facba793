"""Means taken off, lengths, and the means of speakers."""

import numpy as np
import pytest

from qmargin.scoring.directions import mean_vector, speaker_means, unit_vectors


def test_directions_have_length_one_after_the_mean_is_taken_off() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) + 3
    mean = mean_vector(vectors)
    unit = unit_vectors(vectors, mean)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-6)
    expected = vectors[7] - mean
    np.testing.assert_allclose(unit[7], expected / np.linalg.norm(expected), rtol=1e-5)


def test_the_mean_of_many_is_added_up_in_float64() -> None:
    vectors = np.full((200_000, 1), 0.1, dtype=np.float32)
    assert mean_vector(vectors)[0] == np.float64(np.float32(0.1))


def test_what_has_no_direction_is_refused() -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=r"embedding 0 \(3 in all\) is zero or not finite"):
        unit_vectors(vectors, np.ones(2))
    with pytest.raises(ValueError, match=r"mean has shape \(3,\), the embeddings \(3, 2\)"):
        unit_vectors(vectors, np.ones(3))
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"embedding 1 \(1 in all\)"):
        unit_vectors(vectors)


def test_speaker_means_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(300, 5)).astype(np.float32)
    speakers = generator.choice(["c", "a", "bb"], size=300)
    names, means = speaker_means(vectors, speakers)
    assert names.tolist() == ["a", "bb", "c"]
    for name, mean in zip(names, means, strict=True):
        np.testing.assert_allclose(mean, vectors[speakers == name].astype(np.float64).mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"one speaker for each of 300 embeddings is needed, got shape \(299,\)"):
        speaker_means(vectors, speakers[1:])
