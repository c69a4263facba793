"""The bootstrap over subjects on lists of up to some hundred thousand trials: whole curves of every resample.

Conventions:
    A genuine trial of subject i, drawn w_i times, weighs w_i; an impostor trial of subjects i and j weighs w_i w_j.
    Where pairs are drawn instead (`_subjects.py`), a genuine trial weighs 1, an impostor trial twice its pair's coin.
    A draw that leaves no genuine or no impostor trial is drawn again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qmargin.metrics._subjects import COINS, Counts, Subjects
from qmargin.metrics._validate import Mask, Scores
from qmargin.metrics.det import DetCurve, Indices, RankedTrials

Curves = list[list[DetCurve]]  # of one resample: for each system, of its runs


@dataclass(frozen=True, eq=False)
class TrialSubjects:
    """Which weight each trial takes: one for each subject (genuine trials), then one for each pair (impostor trials).

    Trials of the same two subjects share a pair, so a draw fills `subjects + pairs` weights.
    """

    subjects: Subjects
    left: Indices  # (pairs,) subject 0..subjects - 1
    right: Indices
    at: Indices  # (trials,) where the weight of the trial stands, 0..subjects + pairs - 1
    trials_at: Counts  # (subjects + pairs,) number of trials that take this weight

    @classmethod
    def of(cls, subjects: Subjects, genuine: Mask) -> "TrialSubjects":
        """Index the subjects of each trial."""
        count = subjects.count
        left, right = subjects.sides.T.astype(np.int64)
        codes, pair = np.unique(left[~genuine] * count + right[~genuine], return_inverse=True)
        at = left.copy()
        at[~genuine] = count + pair
        left, right = np.divmod(codes, count)
        return cls(subjects, left, right, at, np.bincount(at, minlength=count + codes.size))

    def resamples(self, count: int, generator: np.random.Generator) -> Iterator[Counts]:
        """Yield `count` weights (subjects + pairs,), each leaving trials of both classes."""
        for _ in range(count):
            weights = self._draw(generator)
            while not self._both_classes(weights):
                weights = self._draw(generator)
            yield weights

    def pair_resamples(self, count: int, generator: np.random.Generator) -> Iterator[Counts]:
        """As `resamples`, with the subjects as they are and their pairs drawn."""
        slot, once = self.subjects.slot(self.left, self.right), np.ones(self.subjects.count, dtype=np.int64)
        done = 0
        while done < count:
            tossed = self.subjects.coins(generator)[slot]  # (pairs,)
            for coin in range(COINS):
                weights = np.concatenate([once, 2 * ((tossed >> coin) & 1).astype(np.int64)])
                if done < count and self._both_classes(weights):
                    yield weights
                    done += 1

    def _draw(self, generator: np.random.Generator) -> Counts:
        drawn = self.subjects.draw(generator)
        return np.concatenate([drawn, drawn[self.left] * drawn[self.right]])

    def _both_classes(self, weights: Counts) -> bool:
        present = (weights > 0) & (self.trials_at > 0)
        return bool(present[: self.subjects.count].any() and present[self.subjects.count :].any())


@dataclass(frozen=True, eq=False)
class RankedSystems:
    """Runs of each system, sorted once."""

    trials: TrialSubjects
    systems: list[list[RankedTrials]]

    @classmethod
    def of(cls, systems: Sequence[Sequence[Scores]], genuine: Mask, subjects: Subjects) -> "RankedSystems":
        """Sort checked scores (trials,) of each run of each system."""
        trials = TrialSubjects.of(subjects, genuine)
        return cls(trials, [[_rank(run, genuine, trials) for run in runs] for runs in systems])

    def by_subjects(self, count: int, seed: int) -> Iterator[Curves]:
        """Curves of `count` resamples of the subjects."""
        return map(self._curves, self.trials.resamples(count, np.random.default_rng(seed)))

    def by_pairs(self, count: int, seed: int) -> Iterator[Curves]:
        """Curves of `count` resamples of the pairs of subjects."""
        return map(self._curves, self.trials.pair_resamples(count, np.random.default_rng([seed, 1])))

    def _curves(self, weights: Counts) -> Curves:
        return [[run.curve(weights, resampled=True) for run in runs] for runs in self.systems]


def _rank(scores: Scores, genuine: Mask, trials: TrialSubjects) -> RankedTrials:
    ranked = RankedTrials.of(scores, genuine)
    return replace(ranked, genuine_at=trials.at[ranked.genuine_at], impostor_at=trials.at[ranked.impostor_at])
