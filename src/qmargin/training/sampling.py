"""Class-balanced order of training images: identities with few images are shown more often."""

import numpy as np
from numpy.typing import NDArray

from qmargin.data import ShuffledBatches
from qmargin.data.sampling import Indices


class BalancedBatches(ShuffledBatches):
    """`ShuffledBatches` in which an identity of n images is drawn in proportion to n^(1 - balance).

    balance 0 shows each image once an epoch, balance 1 each identity as often as any other. An epoch has as many draws
    as there are images. An identity's draws are spread over its images: none is shown a second time before all have
    been shown once. Identities get whole numbers of draws, rounded at random without changing their mean.

    Args:
        labels: class of each sample (samples,), every class at least once.
        batch_size: samples of one rank's batch.
        seed: of everything random.
        balance: in [0, 1].
        rank, world_size: as `ShuffledBatches`.

    Raises:
        ValueError: a balance outside [0, 1], and what `ShuffledBatches` refuses.

    Example:
        >>> order = BalancedBatches(np.array([0] * 90 + [1] * 10), batch_size=100, seed=0, balance=1.0)
        >>> int((order[0] < 90).sum())
        50

    Reference: Mahajan et al., ECCV 2018, square-root sampling (balance 0.5). Sibling: `HeadConfig.prior_exponent`,
    which leaves the order alone and corrects the loss.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        batch_size: int,
        seed: int,
        balance: float,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0.0 <= balance <= 1.0:
            raise ValueError(f"BalancedBatches.balance must be in [0, 1], got {balance!r}")
        super().__init__(len(labels), batch_size, seed, rank, world_size)
        self.balance = balance
        self._by_class = np.argsort(labels, kind="stable")  # samples, class after class
        self._counts = np.bincount(labels)
        assert self._counts.min() > 0, "a manifest has no class without a sample"

    def _draw(self, generator: np.random.Generator) -> Indices:
        """The samples of an epoch (samples,), in random order."""
        share = self._counts ** (1.0 - self.balance)
        ends = np.cumsum(share) / share.sum() * self.samples
        ends[-1] = self.samples  # not its rounding
        # systematic sampling: draws of a class are its mean, rounded up or down
        draws = np.diff(np.ceil(ends - generator.random()).astype(np.int64).clip(0), prepend=0)  # (classes,)
        draws[-1] += self.samples - draws.sum()
        shuffled = self._by_class[np.lexsort((generator.random(self.samples), np.repeat(self._ids(), self._counts)))]
        starts = np.cumsum(self._counts) - self._counts
        owner = np.repeat(self._ids(), draws)  # class of each draw
        turn = np.arange(self.samples) - np.repeat(np.cumsum(draws) - draws, draws)  # 0, 1, ... within the class
        chosen: Indices = shuffled[starts[owner] + turn % self._counts[owner]]
        return generator.permutation(chosen)

    def _ids(self) -> Indices:
        return np.arange(len(self._counts))

    def _identity(self) -> dict[str, int]:
        return {**super()._identity(), "balance_permille": round(1000 * self.balance)}


def training_order(
    labels: NDArray[np.int64], batch_size: int, seed: int, balance: float, rank: int = 0, world_size: int = 1
) -> ShuffledBatches:
    """The order of a run's training images, of one rank: shuffled, or balanced where `balance` is above 0."""
    if balance == 0.0:
        return ShuffledBatches(len(labels), batch_size, seed, rank, world_size)
    return BalancedBatches(labels, batch_size, seed, balance, rank, world_size)
