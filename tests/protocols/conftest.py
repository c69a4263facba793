"""Simulated trials: people with a direction each, images scattered around it."""

from collections.abc import Callable

import numpy as np
import pytest

from qmargin.protocols import Trials, all_pairs
from qmargin.scoring import Embeddings

MakeTrials = Callable[[float, int], Trials]


@pytest.fixture
def make_trials() -> MakeTrials:
    def make(noise: float, seed: int, people: int = 12, images: int = 5) -> Trials:
        directions = np.random.default_rng(0).normal(size=(people, 16))
        scatter = np.random.default_rng([1, seed]).normal(size=(people * images, 16))
        vectors = np.repeat(directions, images, axis=0) + noise * scatter
        names = np.array([f"p{index // images:02d}" for index in range(people * images)])
        return all_pairs(Embeddings(vectors.astype(np.float32), names, np.arange(people * images).astype(str)))

    return make
