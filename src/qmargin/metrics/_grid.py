"""The bootstrap over subjects on long lists: the same draws, read at some thousands of thresholds instead of all.

Conventions:
    The thresholds of the grid are scores of the list: every one among the `FINEST` highest and lowest of each class,
    then such that the number of trials of that class above (or below) grows by one in `FINEST` from one
    threshold to the next. At a threshold of the grid a resample's rates are exact, weights and all; between two of them
    nothing is read. So a conservative TAR@FAR is read at a FAR that is too low by at most about one in `FINEST`, a
    hundredth of an interval's width where thirty false accepts decide.
    A batch of resamples is weighed at once, block by block of the trials by rising score: the tables of weights and the
    products of a block stay in the cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qmargin.metrics._exact import Curves
from qmargin.metrics._subjects import COINS, Counts, Subjects
from qmargin.metrics._validate import Floats, Mask, Scores
from qmargin.metrics.det import DetCurve, Indices, curve_of

FINEST = 500
BATCH = COINS  # resamples weighed at once
BLOCK = 16_384  # trials at a time: 1 MB of products
Products = NDArray[np.float32]


class Weights(Protocol):
    """Weights of trials in all resamples of a batch; whole numbers, so that float32 sums of a block are exact."""

    batch: int

    def of_genuine(self, left: Indices) -> Products:
        """Weights (batch, trials) of genuine trials of these subjects."""

    def of_impostors(self, left: Indices, right: Indices) -> Products:
        """Weights (batch, trials) of impostor trials of these subjects."""


class SubjectWeights:
    """Subject i drawn w_i times: w_i for its genuine trials, w_i w_j for impostor trials with j."""

    def __init__(self, drawn: Counts) -> None:
        """From draws (batch, subjects)."""
        self._table = drawn.astype(np.float32)
        self.batch = len(drawn)

    def of_genuine(self, left: Indices) -> Products:
        """w_i."""
        return np.take(self._table, left, axis=1)

    def of_impostors(self, left: Indices, right: Indices) -> Products:
        """w_i w_j."""
        products = np.take(self._table, left, axis=1)
        products *= np.take(self._table, right, axis=1)
        return products


class PairWeights:
    """Genuine trials once, impostor trials twice or not at all, by the coin of their pair of subjects."""

    batch = COINS

    def __init__(self, subjects: Subjects, coins: NDArray[np.uint16]) -> None:
        """From tosses (slots,)."""
        self._subjects, self._coins = subjects, coins

    def of_genuine(self, left: Indices) -> Products:
        """1."""
        return np.ones((self.batch, left.size), dtype=np.float32)

    def of_impostors(self, left: Indices, right: Indices) -> Products:
        """0 or 2."""
        tossed = self._coins[self._subjects.slot(left, right)]
        bits = (tossed >> np.arange(COINS, dtype=np.uint16)[:, np.newaxis]) & np.uint16(1)
        products = bits.astype(np.float32)
        products *= np.float32(2.0)
        return products


@dataclass(frozen=True, eq=False)
class SortedClass:
    """Trials of one class by rising score, and where each threshold of the grid cuts them."""

    left: NDArray[np.int32]  # (trials,) subject of one side
    right: NDArray[np.int32] | None  # of the other; None for genuine trials
    cuts: Indices  # (points,) number of trials below each threshold; the last is all of them

    def below(self, weights: Weights) -> Counts:
        """Weight (batch, points) below each threshold."""
        filled = np.flatnonzero(np.diff(self.cuts))  # cells that hold trials; cell k lies below threshold k + 1
        starts = self.cuts[filled]
        sums = np.zeros((weights.batch, self.cuts.size), dtype=np.int64)  # of cell k in column k + 1
        for begin in range(0, len(self.left), BLOCK):
            block = slice(begin, min(begin + BLOCK, len(self.left)))
            left = self.left[block].astype(np.intp)
            products = (
                weights.of_genuine(left)
                if self.right is None
                else weights.of_impostors(left, self.right[block].astype(np.intp))
            )  # (batch, trials of the block)
            cell, stop = np.searchsorted(starts, [begin, block.stop - 1], side="right") - 1
            edges = np.maximum(starts[cell : stop + 1] - begin, 0)
            sums[:, filled[cell : stop + 1] + 1] += np.add.reduceat(products, edges, axis=1).astype(np.int64)
        below: Counts = np.cumsum(sums, axis=1)
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

    def curves(self, weights: Weights) -> list[DetCurve | None]:
        """Curve of each resample of a batch; None where one leaves a class empty."""
        missed, rejected = self.genuine.below(weights), self.impostor.below(weights)
        return [
            curve_of(self.cutoffs, genuine, impostor, resampled=True) if genuine[-1] > 0 and impostor[-1] > 0 else None
            for genuine, impostor in zip(missed, rejected, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class GriddedSystems:
    """Runs of each system, each cut by a grid of its own."""

    subjects: Subjects
    systems: list[list[GriddedTrials]]

    @classmethod
    def of(cls, systems: Sequence[Sequence[Scores]], genuine: Mask, subjects: Subjects) -> "GriddedSystems":
        """Sort checked scores (trials,) of each run of each system."""
        return cls(subjects, [[GriddedTrials.of(run, genuine, subjects.sides) for run in runs] for runs in systems])

    def by_subjects(self, count: int, seed: int) -> Iterator[Curves]:
        """Curves of `count` resamples of the subjects; the draws are those of `RankedSystems`."""
        generator = np.random.default_rng(seed)

        def weights(most: int) -> Weights:
            return SubjectWeights(np.stack([self.subjects.draw(generator) for _ in range(min(BATCH, most))]))

        return self._resamples(count, weights)

    def by_pairs(self, count: int, seed: int) -> Iterator[Curves]:
        """Curves of `count` resamples of the pairs of subjects."""
        generator = np.random.default_rng([seed, 1])

        def weights(_: int) -> Weights:
            return PairWeights(self.subjects, self.subjects.coins(generator))

        return self._resamples(count, weights)

    def _resamples(self, count: int, batch: Callable[[int], Weights]) -> Iterator[Curves]:
        done = 0
        while done < count:
            weights = batch(count - done)
            curves = [[grid.curves(weights) for grid in runs] for runs in self.systems]
            for number in range(weights.batch):
                taken = [[run[number] for run in runs] for runs in curves]
                # a draw that leaves a class empty does so for every system and run; it is drawn again
                whole = [[curve for curve in runs if curve is not None] for runs in taken]
                if done < count and whole[0]:
                    yield whole
                    done += 1


def _ranks(trials: int) -> Indices:
    """Positions in a sorted class at which the grid has a threshold, the first one always among them."""
    dense = min(FINEST, trials)
    growth = dense * np.exp(np.arange(0.0, np.log(trials / dense) + 1e-9, np.log1p(1.0 / FINEST)))
    from_end = np.unique(np.concatenate([np.arange(dense), growth.astype(np.int64)]))
    from_end = from_end[from_end < trials]
    ranks: Indices = np.unique(np.concatenate([from_end, trials - 1 - from_end]))
    return ranks
