"""The bootstrap over subjects on long lists: the same draws, read at some thousands of thresholds instead of all.

Conventions:
    The thresholds of the grid are scores of the list: every one among the `FINEST` highest and lowest of each class,
    then such that the number of trials of that class above (or below) grows by one in `FINEST` from one
    threshold to the next. At a threshold of the grid a resample's rates are exact, weights and all; between two of them
    nothing is read. So a conservative TAR@FAR is read at a FAR that is too low by at most about one in `FINEST`, a
    hundredth of an interval's width where thirty false accepts decide.
    A batch of resamples is weighed at once: the trials stand by rising score, the weights of a subject in all resamples
    of the batch side by side, in a table that stays in the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics._validate import Floats, Mask, Scores
from qmargin.metrics.det import DetCurve, Indices, curve_of

FINEST = 500
BATCH = 16  # resamples weighed at once
BLOCK = 8192  # trials at a time: 0.5 MB of products
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SortedClass:
    """Trials of one class by rising score, and where each threshold of the grid cuts them."""

    left: NDArray[np.int32]  # (trials,) subject of one side
    right: NDArray[np.int32] | None  # of the other; None for genuine trials: a trial of subject i weighs w_i
    cuts: Indices  # (points,) number of trials below each threshold; the last is all of them

    def below(self, drawn: NDArray[np.float32]) -> Counts:
        """Weight (points, batch) below each threshold, from the weights (subjects, batch) of the subjects."""
        filled = np.flatnonzero(np.diff(self.cuts))  # cells that hold trials; cell k lies below threshold k + 1
        starts = self.cuts[filled]
        weights = np.zeros((self.cuts.size, drawn.shape[1]), dtype=np.int64)  # of cell k in row k + 1
        for begin in range(0, len(self.left), BLOCK):
            block = slice(begin, min(begin + BLOCK, len(self.left)))
            products = drawn[self.left[block]]  # (trials of the block, batch)
            if self.right is not None:
                products *= drawn[self.right[block]]
            cell, stop = np.searchsorted(starts, [begin, block.stop - 1], side="right") - 1
            edges = np.maximum(starts[cell : stop + 1] - begin, 0)
            weights[filled[cell : stop + 1] + 1] += np.add.reduceat(products, edges, axis=0).astype(np.int64)
        below: Counts = np.cumsum(weights, axis=0)
        return below


@dataclass(frozen=True, eq=False)
class GriddedTrials:
    """A long list, cut by a grid of its own scores."""

    cutoffs: Floats  # (points,) rising, then +inf
    genuine: SortedClass
    impostor: SortedClass

    @classmethod
    def of(cls, scores: Scores, genuine: Mask, sides: NDArray[np.int32]) -> "GriddedTrials":
        """Sort checked scores (trials,) with their mask of genuine trials and the subjects (trials, 2)."""
        orders = [np.flatnonzero(mask) for mask in (genuine, ~genuine)]
        orders = [order[np.argsort(scores[order])] for order in orders]
        ranked = [scores[order] for order in orders]
        cutoffs = np.unique(np.concatenate([values[_ranks(values.size)] for values in ranked]))
        cuts = [np.append(np.searchsorted(values, cutoffs), values.size) for values in ranked]
        return cls(
            np.append(cutoffs.astype(np.float64), np.inf),
            SortedClass(sides[orders[0], 0], None, cuts[0]),
            SortedClass(sides[orders[1], 0], sides[orders[1], 1], cuts[1]),
        )

    def curves(self, drawn: Counts) -> Iterator[DetCurve | None]:
        """Curve of each draw, given as weights (batch, subjects); None where one leaves a class empty."""
        table = np.ascontiguousarray(drawn.T, dtype=np.float32)  # whole numbers: sums of a block are exact
        missed, rejected = self.genuine.below(table), self.impostor.below(table)
        for number in range(len(drawn)):
            genuine, impostor = missed[:, number], rejected[:, number]
            both = genuine[-1] > 0 and impostor[-1] > 0
            yield curve_of(self.cutoffs, genuine, impostor, resampled=True) if both else None


def _ranks(trials: int) -> Indices:
    """Positions in a sorted class at which the grid has a threshold, the first one always among them."""
    dense = min(FINEST, trials)
    growth = dense * np.exp(np.arange(0.0, np.log(trials / dense) + 1e-9, np.log1p(1.0 / FINEST)))
    from_end = np.unique(np.concatenate([np.arange(dense), growth.astype(np.int64)]))
    from_end = from_end[from_end < trials]
    ranks: Indices = np.unique(np.concatenate([from_end, trials - 1 - from_end]))
    return ranks
