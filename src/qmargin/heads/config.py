"""Which head a run trains, as a config that builds it."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from qmargin.heads.contract import Head
from qmargin.heads.dense import DenseHead
from qmargin.heads.prior import base_from_counts
from qmargin.heads.products import Precision
from qmargin.heads.sharded import ShardedHead
from qmargin.heads.streaming import StreamingHead
from qmargin.losses import AlphaLoss
from qmargin.optim import Update

Kind = Literal["auto", "dense", "streaming"]
Measure = Literal["unit", "probability"]

STREAMING_FROM = 10_000  # classes


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The head; all kinds have the same loss and gradients, to float32 rounding.

    Raises:
        ValueError: an unknown value, or lazy updates of the dense head.

    Example:
        >>> from qmargin.losses import QMargin
        >>> type(HeadConfig().build(500, 64, QMargin())).__name__
        'DenseHead'
    """

    kind: Kind = "auto"
    """dense holds every cosine of a batch, streaming does not; auto is streaming from 10,000 identities on."""
    update: Update = "dense"
    """dense moves every prototype each step, as torch.optim.SGD does; lazy (streaming only) those with a gradient."""
    precision: Precision = "auto"
    """Precision of the streaming head's screening; the result is float32 with any. auto: bfloat16 where the device has
    units for it, else float32."""
    prior_exponent: float = 0.0
    """Base measure of the classes: their image counts to this power (logit adjustment); 0 for equal ones."""
    measure: Measure = "unit"
    """Size of the base measure: unit is 1 on the mean of the classes, as in entmax; probability is 1 in all. With the
    latter one scale is as soft for every alpha and number of classes while posteriors are near even: docs/losses.md."""

    def __post_init__(self) -> None:
        """Refuse values that are none, and a contradiction."""
        for name, known in (("kind", Kind), ("update", Update), ("precision", Precision), ("measure", Measure)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"head.{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}"
                )
        if not 0.0 <= self.prior_exponent < float("inf"):
            raise ValueError(f"head.prior_exponent must be a number >= 0, got {self.prior_exponent!r}")
        if self.kind == "dense" and self.update == "lazy":
            raise ValueError("the dense head has no lazy updates: set head.kind to streaming or head.update to dense")

    def streams(self, num_classes: int) -> bool:
        """Whether the head of that many classes is the streaming one."""
        return self.kind == "streaming" or (self.kind == "auto" and num_classes >= STREAMING_FROM)

    def build(
        self,
        num_classes: int,
        embedding_dim: int,
        loss: AlphaLoss,
        device: torch.device | str | None = None,
        counts: Tensor | None = None,
        *,
        sharded: bool = False,
    ) -> Head:
        """The head, with fresh prototypes from torch's generator: the same ones whatever the kind.

        Args:
            num_classes: C, number of identities.
            embedding_dim: D, size of an embedding.
            loss: of the first step.
            device: of the prototypes.
            counts: images of each class (classes,), which `prior_exponent` needs.
            sharded: share the classes out over the ranks of torch.distributed, whatever the kind.

        Raises:
            ValueError: lazy updates, while auto chooses the dense head; a prior without counts; what the head refuses.
        """
        base = self._base(num_classes, counts)
        if sharded:
            return ShardedHead(
                num_classes, embedding_dim, loss, precision=self.precision, update=self.update, base=base, device=device
            )
        if self.streams(num_classes):
            return StreamingHead(
                num_classes, embedding_dim, loss, precision=self.precision, update=self.update, base=base, device=device
            )
        if self.update == "lazy":
            raise ValueError(
                f"lazy updates need the streaming head; head.kind auto is dense below {STREAMING_FROM:,} identities "
                f"(here are {num_classes:,}): set head.kind to streaming or head.update to dense"
            )
        return DenseHead(num_classes, embedding_dim, loss, base=base, device=device)

    def _base(self, num_classes: int, counts: Tensor | None) -> Tensor | None:
        """The base measure (classes,); None where it is 1 for each."""
        if self.prior_exponent:
            if counts is None:
                raise ValueError("head.prior_exponent makes a measure of the images of each class: pass counts")
            base = base_from_counts(counts, self.prior_exponent)
        elif self.measure == "unit":
            return None
        else:
            base = torch.ones(num_classes)
        return base if self.measure == "unit" else base / num_classes
