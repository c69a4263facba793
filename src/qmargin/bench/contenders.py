"""The sides of a comparison of heads: each does forward, backward and update in one `step`.

All share the prototypes of a scene and move them by SGD with momentum 0.9. The learning rate is so small that the
prototypes stay what they are while they are measured; the work does not depend on it. Peers are written plainly from
their public descriptions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name the field uses
from torch.profiler import record_function

from qmargin.bench.scene import Batch, Scene
from qmargin.heads import Head
from qmargin.losses import AlphaLoss, ArcFace
from qmargin.losses.margins import shifted_cosine

MOMENTUM = 0.9
LEARNING_RATE = 1e-6
ARCFACE_M = 0.5  # radians


class Contender(ABC):
    """One side at work on a scene."""

    def __init__(self, scene: Scene) -> None:
        self.weight = nn.Parameter(scene.weight)  # shares its memory
        self.optimizer: torch.optim.Optimizer | None = None
        self.head: Head | None = None

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch, differentiable in embeddings and prototypes."""

    def step(self, batch: Batch) -> None:
        """Forward, backward into embeddings and prototypes, update of the prototypes."""
        assert self.optimizer is not None
        batch.embeddings.grad = None
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        with record_function("qmargin::update"):
            self.optimizer.step()

    def optimizer_bytes(self) -> int:
        """Memory of the optimizer's state, which no head can do without."""
        if self.optimizer is None:
            return 0
        values = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(value.nbytes for value in values if isinstance(value, Tensor))

    def stats(self) -> dict[str, float]:
        """Support size and candidates of the last step; empty for a side that does not know them."""
        return {} if self.head is None else self.head.stats.as_floats()


class WithHead(Contender):
    """A head of this package under the optimizer it makes.

    Args:
        scene: prototypes and batches.
        kind: of the head.
        loss: any row of the family.
        options: of the head, e.g. `update="lazy"`.
    """

    def __init__(self, scene: Scene, kind: Callable[..., Head], loss: AlphaLoss, **options: Any) -> None:  # noqa: ANN401
        super().__init__(scene)
        self.head = kind(*scene.weight.shape, loss, device="meta", **options)  # no memory of its own
        self.head.weight = self.weight
        self.optimizer = self.head.make_optimizer(lr=LEARNING_RATE, momentum=MOMENTUM)

    def loss(self, batch: Batch) -> Tensor:
        """Of all classes."""
        assert self.head is not None
        result: Tensor = self.head(*batch)
        return result


class PlainArcFace(Contender):
    """ArcFace as it is usually written: normalise, `F.linear` (maybe under autocast), margin, cross-entropy."""

    def __init__(self, scene: Scene, scale: float, *, autocast: bool) -> None:
        super().__init__(scene)
        self.scale, self.autocast = scale, autocast
        self.optimizer = torch.optim.SGD([self.weight], lr=LEARNING_RATE, momentum=MOMENTUM)

    def loss(self, batch: Batch) -> Tensor:
        """Of all classes."""
        return plain_arcface(batch.embeddings, self.weight, batch.labels, self.scale, autocast=self.autocast)


class PartialFC(Contender):
    """Partial FC (An et al., 2021, 2022): the classes of the batch and random others, `rate` of all; approximate.

    Each step draws the classes, copies their prototypes and momentum out, does plain ArcFace and SGD on the copies, and
    writes both back: rows that were not drawn stay as they are.
    """

    def __init__(self, scene: Scene, scale: float, rate: float, *, autocast: bool) -> None:
        super().__init__(scene)
        self.scale, self.rate, self.autocast = scale, rate, autocast
        self.momentum = torch.zeros_like(scene.weight)

    def loss(self, batch: Batch) -> Tensor:
        """Of the drawn classes, whose prototypes are `self.drawn`."""
        labels = torch.searchsorted(self.index, batch.labels)
        return plain_arcface(batch.embeddings, self.drawn, labels, self.scale, autocast=self.autocast)

    def step(self, batch: Batch) -> None:
        """Draw, step on the drawn, write back."""
        batch.embeddings.grad = None
        self.index = self.draw(batch.labels)
        self.drawn = nn.Parameter(self.weight.detach()[self.index])
        optimizer = torch.optim.SGD([self.drawn], lr=LEARNING_RATE, momentum=MOMENTUM)
        momentum = self.momentum[self.index]
        optimizer.state[self.drawn]["momentum_buffer"] = momentum
        self.loss(batch).backward()
        with record_function("qmargin::update"):
            optimizer.step()
            self.weight.detach()[self.index] = self.drawn.detach()
            self.momentum[self.index] = momentum

    def draw(self, labels: Tensor) -> Tensor:
        """Indices of the classes of this step, ascending: all labels, and random others up to `rate` of all."""
        classes = len(self.weight)
        positive = labels.unique()
        wanted = max(int(self.rate * classes), len(positive))
        lot = torch.rand(classes)
        lot[positive] = 2.0  # above every other
        return lot.topk(wanted).indices.sort().values

    def optimizer_bytes(self) -> int:
        """Momentum of all classes."""
        return self.momentum.nbytes


class Product(Contender):
    """The floor: the bare product of the batch with all directions, and nothing else.

    Args:
        scene: prototypes and batches.
        dtype: of the directions and the product.
        chunk: classes at once; all unless given.
    """

    def __init__(self, scene: Scene, dtype: torch.dtype = torch.bfloat16, chunk: int | None = None) -> None:
        super().__init__(scene)
        self.chunk = chunk
        self.rows = torch.empty_like(scene.weight, dtype=dtype)
        for low in range(0, len(self.rows), 4096):
            self.rows[low : low + 4096] = F.normalize(scene.weight[low : low + 4096])

    def loss(self, batch: Batch) -> Tensor:
        """No loss: one score, so that something is returned."""
        embeddings = F.normalize(batch.embeddings.detach()).to(self.rows.dtype)
        if self.chunk is None:
            return (embeddings @ self.rows.T)[0, 0]
        for low in range(0, len(self.rows), self.chunk):
            scores = self.rows[low : low + self.chunk] @ embeddings.T
        return scores[0, 0]

    def step(self, batch: Batch) -> None:
        """The product alone."""
        self.loss(batch)


def plain_arcface(embeddings: Tensor, weight: Tensor, labels: Tensor, scale: float, *, autocast: bool) -> Tensor:
    """Mean ArcFace loss in four lines; the product alone is in bfloat16 under `autocast`.

    Args:
        embeddings: (batch, dim).
        weight: (classes, dim).
        labels: (batch,).
        scale: s.
        autocast: whether the product runs under bfloat16 autocast.

    Sibling: `DenseHead` with `ArcFace()`, which this equals in float32.
    """
    context: AbstractContextManager[object] = (
        torch.autocast(embeddings.device.type, torch.bfloat16) if autocast else nullcontext()
    )
    with context:
        cosines = F.linear(F.normalize(embeddings), F.normalize(weight))  # (batch, classes)
    cosines, at_label = cosines.float(), labels.unsqueeze(1)
    target = shifted_cosine(cosines.gather(1, at_label), ARCFACE_M)
    return F.cross_entropy(scale * cosines.scatter(1, at_label, target), labels)


def arcface(scale: float) -> AlphaLoss:
    """The loss of the dense sides."""
    return ArcFace(ARCFACE_M, scale)
