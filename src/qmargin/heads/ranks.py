"""What the arithmetic of a head asks of the other ranks, where its classes are shared out over several.

Every quantity of a row that is taken over classes (a sum, a maximum) is taken over the own classes first and then over
the ranks. A head that has all classes itself is `ALONE`: nothing is left to do. `qmargin.heads.collectives.Group` asks
the others.
"""

from typing import Protocol

from torch import Tensor


class Ranks(Protocol):
    """The ranks that share the classes of a head; all of them call the same method with the same shape."""

    size: int

    def total(self, sums: Tensor) -> Tensor:
        """Sums over the own classes (any shape) become sums over all classes."""

    def largest(self, maxima: Tensor) -> Tensor:
        """Maxima over the own classes (any shape) become maxima over all classes."""

    def log_total(self, logs: Tensor) -> Tensor:
        """Logarithms of sums over the own classes (any shape) become those of sums over all classes."""


class Alone:
    """One rank with all classes."""

    size = 1

    def total(self, sums: Tensor) -> Tensor:
        """As they are."""
        return sums

    def largest(self, maxima: Tensor) -> Tensor:
        """As they are."""
        return maxima

    def log_total(self, logs: Tensor) -> Tensor:
        """As they are."""
        return logs


ALONE = Alone()
