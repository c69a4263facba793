"""Cosines of a list of trials, by gathers in blocks: the list may be any subset of the pairs, in any order."""

import numpy as np
from numpy.typing import NDArray

from qmargin.scoring.directions import Vectors

BLOCK_TRIALS = 8192  # 2 gathers of 8 MB at 256 dimensions: they stay in the cache
Indices = NDArray[np.integer]


def trial_cosines(unit: Vectors, first: Indices, second: Indices) -> NDArray[np.float32]:
    """Cosine of each trial, `unit[first[k]] @ unit[second[k]]`.

    Args:
        unit: (utterances, dim), of `unit_vectors`.
        first: (trials,) indices into `unit`.
        second: (trials,) indices into `unit`.

    Returns:
        (trials,) float32 in [-1, 1] up to rounding.

    Example:
        >>> unit = np.float32([[1, 0], [0, 1], [0.6, 0.8]])
        >>> trial_cosines(unit, np.array([0, 1]), np.array([1, 2])).astype(float).round(2).tolist()
        [0.0, 0.8]

    See also `qmargin.scoring.cosine.pair_cosines`, for all pairs.
    """
    scores = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), BLOCK_TRIALS):
        block = slice(start, start + BLOCK_TRIALS)
        np.einsum("td,td->t", unit[first[block]], unit[second[block]], out=scores[block])
    return scores
