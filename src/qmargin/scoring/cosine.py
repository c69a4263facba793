"""Cosines of all pairs of a set of embeddings, by blocks of a matrix product."""

import numpy as np
from numpy.typing import NDArray

from qmargin.scoring.directions import unit_vectors

BLOCK_ROWS = 1024  # rows of the similarity matrix at a time: 32 MB for 8,000 embeddings


def pair_cosines(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of every unordered pair i < j, in the order (0,1), (0,2), ..., (1,2), ...: that of numpy.triu_indices.

    Args:
        embeddings: (items, dim), any norm but zero.

    Returns:
        (items * (items - 1) / 2,) float32 in [-1, 1] up to rounding.

    Raises:
        ValueError: an embedding is zero or not finite; fewer than two items.

    Example:
        >>> pair_cosines(np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)).astype(float).round(4).tolist()
        [0.0, 0.7071, 0.7071]
    """
    items = len(embeddings)
    if embeddings.ndim != 2 or items < 2:
        raise ValueError(f"pairs need embeddings of shape (items >= 2, dim), got {embeddings.shape}")
    unit = unit_vectors(embeddings)
    scores = np.empty(items * (items - 1) // 2, dtype=np.float32)
    filled = 0
    for start in range(0, items, BLOCK_ROWS):
        block = unit[start : start + BLOCK_ROWS] @ unit.T  # (rows, items)
        for row, similarities in enumerate(block, start):
            count = items - row - 1
            scores[filled : filled + count] = similarities[row + 1 :]
            filled += count
    return scores
