"""Cosines of trials beside a loop over pairs."""

import numpy as np

from qmargin.scoring.directions import unit_vectors
from qmargin.scoring.trial_cosine import BLOCK_TRIALS, trial_cosines


def test_cosines_are_those_of_a_loop_across_blocks() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 7)).astype(np.float32)
    first, second = generator.integers(40, size=(2, BLOCK_TRIALS + 5))
    scores = trial_cosines(unit_vectors(vectors), first, second)
    slow = [
        vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
        for i, j in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(scores, slow, atol=1e-6)
