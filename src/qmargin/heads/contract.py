"""The contract of every head: `loss = head(embeddings, labels)`, `head.stats`, raw prototypes, errors by name."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from qmargin.divergence.inputs import check_base, check_labels, check_rows, to_compute_dtype
from qmargin.heads.ranks import ALONE, Ranks
from qmargin.losses import AlphaLoss

PROTOTYPE_STD = 0.01  # normal(0, 0.01), as the field initialises its class weights

Reduction = Literal["mean", "sum", "none"]


class RowTerms(NamedTuple):
    """What a head knows of each row of a batch; all (batch,)."""

    loss: Tensor  # differentiable
    p_target: Tensor
    support: Tensor  # int64, classes with p > 0
    target_cosine: Tensor  # before the margin
    correct: Tensor  # bool: the own cosine alone is the largest
    candidates: Tensor  # int64, classes the row was solved on
    fallback: Tensor  # bool: the row left the fast path


@dataclass(frozen=True)
class HeadStats:
    """Statistics of a head's last call: 0-dimensional float32 tensors on its device, so reading them is up to you."""

    support_size: Tensor  # mean number of classes with p > 0
    zero_loss: Tensor  # share of rows whose loss is exactly 0
    p_target: Tensor  # mean posterior of the label
    target_dropped: Tensor  # share of rows with p_target = 0
    target_cosine: Tensor  # mean cosine with the own prototype, before the margin
    accuracy: Tensor  # share of rows whose own prototype has the largest cosine (top-1, margin-free)
    candidates: Tensor  # mean number of classes a row was solved on
    fallback_rows: Tensor  # rows that left the fast path

    @classmethod
    @torch.no_grad()
    def of(cls, terms: RowTerms) -> "HeadStats":
        """Means over the batch."""
        return cls(
            support_size=terms.support.float().mean(),
            zero_loss=(terms.loss == 0.0).float().mean(),
            p_target=terms.p_target.float().mean(),
            target_dropped=(terms.p_target == 0.0).float().mean(),
            target_cosine=terms.target_cosine.float().mean(),
            accuracy=terms.correct.float().mean(),
            candidates=terms.candidates.float().mean(),
            fallback_rows=terms.fallback.float().sum(),
        )

    def as_floats(self) -> dict[str, float]:
        """All of them as Python floats, in one transfer from the device."""
        names = [field.name for field in fields(self)]
        return dict(zip(names, torch.stack([getattr(self, name) for name in names]).tolist(), strict=True))


class Head(nn.Module, ABC):
    """Prototypes `weight` (classes, dim) and a loss of cosines; the base of every head.

    Args:
        num_classes: C, number of identities, >= 1.
        embedding_dim: D, size of an embedding, >= 1.
        loss: a row of the family, e.g. `QMargin()`; assign `head.loss` to change it between steps.
        reduction: "mean" (default) or "sum" over the batch, or "none" for the loss of each row (batch,).
        base: optional base measure of the classes (classes,), > 0; None is the unit measure. For class priors pass
            `classes * priors`, of mean 1: a measure that sums to 1 makes the supports thousands of times wider.
        device, dtype: of the prototypes; float32 unless said.

    The prototypes are raw (their norms are free) and start at normal(0, 0.01). Cosines and the loss are computed in
    float32 (float64 for float64 prototypes), also inside autocast.
    """

    weight: nn.Parameter  # (classes, dim)
    ranks: Ranks = ALONE  # that hold the other classes
    base: Tensor | None  # (classes,)

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        loss: AlphaLoss,
        *,
        reduction: Reduction = "mean",
        base: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("embedding_dim", embedding_dim)):
            if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if not isinstance(loss, AlphaLoss):
            raise ValueError(f"loss must be an AlphaLoss, the result of calling QMargin() or ArcFace(), got {loss!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.loss = loss
        self.reduction = reduction
        held = self._held()
        self.weight = nn.Parameter(torch.empty(len(held), embedding_dim, device=device, dtype=dtype))
        if base is not None:
            base = check_base(base.detach(), num_classes)[held.start : held.stop]
            base = to_compute_dtype(base).to(device=device, copy=True)
        self.register_buffer("base", base)
        self._stats: HeadStats | None = None
        self.reset_parameters()

    def _held(self) -> range:
        """The classes whose prototypes are here."""
        return range(self.num_classes)

    def reset_parameters(self) -> None:
        """Draw the prototypes anew from normal(0, 0.01) with torch's generator."""
        nn.init.normal_(self.weight, std=PROTOTYPE_STD)

    def make_optimizer(
        self, *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> torch.optim.Optimizer:
        """An optimizer of the prototypes alone: torch.optim.SGD, or one of its meaning that takes sparse gradients.

        Args:
            lr: learning rate, >= 0.
            momentum: in [0, 1).
            weight_decay: L2 penalty on the prototypes, >= 0.
            nesterov: Nesterov's variant of the momentum.

        Raises:
            ValueError: a value outside its range, nesterov without momentum.
        """
        return torch.optim.SGD([self.weight], lr, momentum, weight_decay=weight_decay, nesterov=nesterov)

    @property
    def stats(self) -> HeadStats:
        """Statistics of the last call."""
        if self._stats is None:
            raise ValueError(
                "a head has statistics after its first call: run head(embeddings, labels) before head.stats"
            )
        return self._stats

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (batch, dim) floating point, any norm but zero.
            labels: (batch,) integer, in [0, classes).

        Returns:
            Scalar (reduction "mean" or "sum") or (batch,) ("none"); float32 or float64.

        Raises:
            ValueError: wrong shape or dtype, label out of range, an embedding or prototype that is zero or not finite.
        """
        self._check(embeddings, labels)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            terms = self._evaluate(to_compute_dtype(embeddings), labels.long())
        self._stats = HeadStats.of(terms)
        if self.reduction == "none":
            return terms.loss
        return terms.loss.mean() if self.reduction == "mean" else terms.loss.sum()

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        """Refuse what is no batch of this head."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim or len(embeddings) == 0:
            raise ValueError(
                f"embeddings must have shape (batch, {self.embedding_dim}) with batch >= 1, got "
                f"{tuple(embeddings.shape)}; embedding_dim is the backbone's output size"
            )
        if not embeddings.is_floating_point():
            raise ValueError(f"embeddings must be floating point, got {embeddings.dtype}; call .float() on them")
        check_labels(labels, len(embeddings), self.num_classes)

    @abstractmethod
    def _evaluate(self, embeddings: Tensor, labels: Tensor) -> RowTerms:
        """Terms of checked embeddings (batch, dim) and labels (batch,)."""

    def extra_repr(self) -> str:
        """Sizes, loss and reduction, for print(head)."""
        return f"num_classes={self.num_classes}, embedding_dim={self.embedding_dim}, loss={self.loss}"


def unit_rows(vectors: Tensor, law: str) -> Tensor:
    """Rows divided by their Euclidean norms; `law` is the error of a row that is zero or not finite. (rows, dim)."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    check_rows(((norms > 0.0) & norms.isfinite()).squeeze(1), law)
    unit: Tensor = vectors / norms
    return unit
