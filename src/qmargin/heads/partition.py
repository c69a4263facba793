"""Which rank owns which classes: contiguous ranges of equal size, the last one takes what is left."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Partition:
    """Classes 0, ..., classes - 1 over ranks 0, ..., ranks - 1, as `torch.chunk` and DTensor's `Shard(0)` cut them.

        block = ceil(classes / ranks);  rank r owns [r block, min((r + 1) block, classes))

    Args:
        classes: C >= 1.
        ranks: W >= 1.

    Raises:
        ValueError: a rank would own no class.

    Example:
        >>> [list(Partition(classes=10, ranks=4).of(rank)) for rank in range(4)]
        [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    """

    classes: int
    ranks: int

    def __post_init__(self) -> None:
        """Refuse a rank without classes."""
        if (self.ranks - 1) * self.block >= self.classes:
            raise ValueError(
                f"each rank must own at least one class: {self.classes} classes in blocks of {self.block} do not reach "
                f"the last of {self.ranks} ranks; use at most {-(-self.classes // self.block)} ranks"
            )

    @property
    def block(self) -> int:
        """Classes of every rank but the last."""
        return -(-self.classes // self.ranks)

    def of(self, rank: int) -> range:
        """The classes of a rank."""
        return range(rank * self.block, min((rank + 1) * self.block, self.classes))

    @property
    def sizes(self) -> list[int]:
        """Number of classes of each rank."""
        return [len(self.of(rank)) for rank in range(self.ranks)]

    def owner(self, labels: Tensor) -> Tensor:
        """The rank that owns the class of each label (batch,)."""
        return labels // self.block
