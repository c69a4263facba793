"""The order of training: a pure function of (seed, step), so a resumed run goes on with the very next batch."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from qmargin.data._checks import check_counts

Indices = NDArray[np.int64]


class ShuffledBatches:
    """Batches of sample indices, without end: every epoch is a fresh permutation, cut into whole batches.

        order = permutation of (seed, epoch),  epoch = step // steps_per_epoch
        batch = order[place * batch_size : (place + 1) * batch_size]
        place = (step % steps_per_epoch) * world_size + rank

    An epoch visits a sample at most once; the last samples of a permutation that fill no batch are left out, others
    each time.

    Args:
        samples: number of samples, >= world_size * batch_size.
        batch_size: samples of one rank's batch, >= 1.
        seed: of all permutations, >= 0.
        rank: of this process, in [0, world_size).
        world_size: processes that train together; their batches of a step are disjoint.

    Raises:
        ValueError: a value outside its range, or batches larger than the set.

    Example:
        >>> order = ShuffledBatches(samples=10, batch_size=4, seed=0)
        >>> order.steps_per_epoch, order[0].shape, len(set(order[0]) & set(order[1]))
        (2, (4,), 0)
    """

    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        check_counts("ShuffledBatches", 1, samples=samples, batch_size=batch_size, world_size=world_size)
        check_counts("ShuffledBatches", 0, seed=seed, rank=rank)
        if rank >= world_size:
            raise ValueError(f"ShuffledBatches.rank must be below world_size {world_size}, got {rank}")
        if batch_size * world_size > samples:
            raise ValueError(
                f"a step takes {batch_size * world_size} samples (batch_size {batch_size} on {world_size} ranks), "
                f"there are {samples}: set batch_size to at most {samples // world_size}"
            )
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._orders: dict[int, Indices] = {}  # by epoch, the last two: workers are on both sides of an epoch's end
        self._lock = Lock()

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the samples."""
        return self.samples // (self.batch_size * self.world_size)

    def __getitem__(self, step: int) -> Indices:
        """Indices of this rank's batch at a step >= 0; (batch_size,) int64."""
        check_counts("ShuffledBatches", 0, step=step)
        epoch, within = divmod(step, self.steps_per_epoch)
        start = (within * self.world_size + self.rank) * self.batch_size
        return self._permutation(epoch)[start : start + self.batch_size].copy()

    def state_dict(self, step: int) -> dict[str, int]:
        """What a checkpoint needs to know of the order; `step` is that of the next batch."""
        return {"step": step, **self._identity()}

    def check_state(self, state: dict[str, int]) -> None:
        """Refuse to go on from a state of another order.

        Args:
            state: from `state_dict`, of any rank and step.

        Raises:
            ValueError: another number of samples or ranks, batch size or seed, by name.
        """
        for name, value in self._identity().items():
            if name not in state:
                raise ValueError(f"the saved order of samples has no {name}: it is damaged, or of another version")
            if state[name] != value:
                raise ValueError(
                    f"the saved order of samples was made with {name} {state[name]}, this one has {name} {value}: "
                    "resuming would repeat or skip samples; resume with the same data and settings, or start anew"
                )

    def _identity(self) -> dict[str, int]:
        return {
            "samples": self.samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world_size": self.world_size,
        }

    def _permutation(self, epoch: int) -> Indices:
        with self._lock:
            if epoch not in self._orders:
                generator = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
                self._orders = dict([*list(self._orders.items())[-1:], (epoch, self._draw(generator))])
            return self._orders[epoch]

    def _draw(self, generator: np.random.Generator) -> Indices:
        """The samples of an epoch (samples,), in random order."""
        return generator.permutation(self.samples)
