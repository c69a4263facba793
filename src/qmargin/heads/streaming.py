"""The streaming head: the loss and gradients of the dense head, without its (batch, classes) and (classes, dim)."""

from typing import get_args

import torch
from torch import Tensor

from qmargin.heads.buffers import GradientBuffer
from qmargin.heads.chunked import Columns, Own, chunked_terms
from qmargin.heads.chunks import MULTIPLE, Chunk, chunks_of, default_chunk
from qmargin.heads.contract import Head, Reduction, RowTerms, unit_rows
from qmargin.heads.gathered import Pairs, gathered_cosines, pair_cosines
from qmargin.heads.products import COPIES, Precision, screening_precision
from qmargin.heads.rows import join_rows, table_terms
from qmargin.heads.screening import BLOCK, Query, Survivors, screen
from qmargin.heads.shadow import Shadow
from qmargin.losses import AlphaLoss
from qmargin.optim import RowAdamW, RowSGD, Update

# A candidate costs a gathered row four times, a streamed class its products for the whole batch: rows that keep more
# than this share of the classes are cheaper streamed.
WIDE_SHARE, WIDE_LEAST = 24, 1024


class StreamingHead(Head):
    """Exact head for up to millions of classes: classes that cannot matter are screened away in low precision.

        loss, gradients and statistics: those of `DenseHead`
        time: one low-precision product (batch, dim) x (dim, classes), and the candidates of each row
        memory: the prototypes, a low-precision copy of them, and the candidates

    For alpha > 1 a class whose logit lies below tau - 1/(alpha-1) has posterior 0 and gradient 0. One pass over the
    classes in low precision finds all others, with a certificate (`qmargin.heads.screening`): never an approximation.
    They are scored again in float32 and the loss is solved on them. A row whose support is a large share of the classes
    is streamed over all of them in float32 instead, and counted in `stats.fallback_rows`. At alpha = 1, where nothing
    can be screened away, every row is streamed (twice: the backward pass computes the chunks again).

    Args:
        num_classes: C, number of identities.
        embedding_dim: D, size of an embedding.
        loss: a row of the family, e.g. `QMargin()`; assign `head.loss` to change it between steps.
        precision: of the screening alone; the result is float32 with any. "bfloat16" and "float16" keep a copy of the
            prototypes' directions of half their size; "float32" keeps none and reads the prototypes. "auto" (default)
            is bfloat16 where the device has units for it (GPUs, CPUs with AVX512-BF16 or AMX), else float32.
        chunk: classes scored at once, a multiple of 16; None (default) fits the scores of the batch into the cache.
        update: how `make_optimizer` moves the prototypes: "dense" (default) every row as torch.optim.SGD does, "lazy"
            only rows with a gradient, at a cost that does not grow with C.
        reduction, base, device, dtype: see `qmargin.heads.Head`; prototypes are float32 or float64.

    Calling it: `head(embeddings, labels)` as `DenseHead`; then `head.stats`. After `backward` the gradient of
    `head.weight` is a sparse tensor (dim values for each class that has one); at alpha = 1 it is dense. Optimizers that
    take both: `head.make_optimizer`, `qmargin.optim`; clipping: `qmargin.optim.clip_grad_norm_`.

    Changes of `head.weight` are noticed by torch's version counter. Edits through `.data` or numpy's view are not
    counted by torch: call `head.refresh()` after them.

    Raises:
        ValueError: as `Head`; an unknown precision or update, a chunk that is no multiple of 16, prototypes in half
            precision.

    Example:
        >>> from qmargin import QMargin, StreamingHead
        >>> _ = torch.manual_seed(0)
        >>> head = StreamingHead(num_classes=20_000, embedding_dim=64, loss=QMargin(scale=64.0), update="lazy")
        >>> optimizer = head.make_optimizer(lr=0.1, momentum=0.9)
        >>> head(torch.randn(8, 64), torch.arange(8)).backward()
        >>> head.weight.grad.layout, head.stats.candidates.item() < 200
        (torch.sparse_coo, True)
        >>> optimizer.step()

    Reference: Koutsianos et al., arXiv 2606.31664 (the sparse losses). Sibling: `DenseHead`, the specification.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        loss: AlphaLoss,
        *,
        precision: Precision = "auto",
        chunk: int | None = None,
        update: Update = "dense",
        reduction: Reduction = "mean",
        base: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        if update not in ("dense", "lazy"):
            raise ValueError(f"update must be 'dense' or 'lazy', got {update!r}")
        if chunk is not None and not (isinstance(chunk, int) and chunk >= MULTIPLE and chunk % MULTIPLE == 0):
            raise ValueError(f"chunk must be a multiple of {MULTIPLE} classes, or None, got {chunk!r}")
        super().__init__(num_classes, embedding_dim, loss, reduction=reduction, base=base, device=device, dtype=dtype)
        self.precision = precision
        self.chunk = chunk
        self.update = update
        self.shadow = Shadow(COPIES[screening_precision(precision, self.weight.device)])
        self._buffer = GradientBuffer()

    def refresh(self) -> None:
        """Forget what was derived from `weight`: needed only after edits that torch does not count (`.data`, numpy)."""
        self.shadow.forget()

    def make_optimizer(
        self, *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> RowSGD:
        """SGD of the prototypes, as `head.update` says; it keeps what the head derived from the prototypes in step."""
        listener = self.shadow.listener(self.weight)
        return RowSGD(
            [self.weight],
            lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            update=self.update,
            listener=listener,
        )

    def make_adamw(
        self,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> RowAdamW:
        """Row-wise AdamW of the prototypes, as `head.update` says."""
        listener = self.shadow.listener(self.weight)
        return RowAdamW(
            [self.weight], lr, betas=betas, eps=eps, weight_decay=weight_decay, update=self.update, listener=listener
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's own
    def _evaluate(self, embeddings: Tensor, labels: Tensor) -> RowTerms:
        directions = self._directions(embeddings)
        terms = self._terms(directions.to(self.weight.dtype), labels)
        return terms._replace(loss=terms.loss.to(torch.promote_types(directions.dtype, self.weight.dtype)))

    def _directions(self, embeddings: Tensor) -> Tensor:
        """Unit embeddings (batch, dim), and a shadow that is fresh; refuses what has no direction."""
        directions = unit_rows(embeddings, "an embedding must be finite and not zero; look for NaN or a dead backbone")
        if self.weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the streaming head needs prototypes in float32 (or float64), got {self.weight.dtype}; keep the head "
                "out of .half() and .bfloat16() and use autocast for the backbone: screening is in low precision anyway"
            )
        self.shadow.keep_in(COPIES[screening_precision(self.precision, self.weight.device)])
        self.shadow.follow(self.weight, low=self.loss.alpha > 1.0)
        return directions

    def _terms(self, directions: Tensor, labels: Tensor) -> RowTerms:
        """Rows with few candidates are solved on those, the others on every class."""
        own = self._own(directions, labels)
        if self.loss.alpha == 1.0:
            return self._streamed(directions, labels, own)
        survivors = self._screened(directions, labels, own)
        wide = survivors.wide
        if not wide.any():
            return self._gathered(directions, labels, own, survivors)
        narrow, members = (~wide).nonzero().squeeze(1), wide.nonzero().squeeze(1)
        parts = [(members, self._streamed(directions[members], labels[members], own.of(members)))]
        if len(narrow) > 0:
            place = torch.cumsum(~wide, 0) - 1
            survivors = survivors._replace(row=place[survivors.row])
            parts.append((narrow, self._gathered(directions[narrow], labels[narrow], own.of(narrow), survivors)))
        return join_rows(parts)

    @torch.no_grad()
    def _own(self, directions: Tensor, labels: Tensor) -> Own:
        rows = torch.arange(len(labels), device=labels.device)
        log_base = self._log_base()
        cosine = pair_cosines(directions, self.weight, self.shadow.inverse_norm, rows, labels)
        return Own(cosine, None if log_base is None else log_base[labels])

    @torch.no_grad()
    def _screened(self, directions: Tensor, labels: Tensor, own: Own) -> Survivors:
        target = self.loss.margin.apply(own.cosine, self.loss.scale, self.loss.alpha)
        # a margin that raises its target (insightface's, past pi) must not hide the classes that beat its plain cosine
        theta = self.loss.scale * torch.minimum(target.cosine, own.cosine)
        log_q = own.log_q(target.log_q)
        query = Query(directions, theta, log_q, self._log_base(), self.loss.scale, self.loss.alpha)
        chunks = self._chunks(labels)
        # on the CPU a host read costs nothing; elsewhere an eighth of a chunk's blocks is kept without asking
        capacity = None if directions.device.type == "cpu" else chunks[0].size * len(labels) // (8 * BLOCK)
        limit = max(WIDE_LEAST, len(self.weight) // WIDE_SHARE)
        return screen(query, self.shadow, self.weight, chunks, limit=limit, capacity=capacity, ranks=self.ranks)

    def _gathered(self, directions: Tensor, labels: Tensor, own: Own, survivors: Survivors) -> RowTerms:
        rows = torch.arange(len(labels), device=labels.device)
        pairs, order = Pairs.ordered(
            torch.cat([rows, survivors.row]), torch.cat([labels, survivors.column]), len(labels)
        )
        known = torch.cat([own.cosine, survivors.cosine])[order]
        cosines = gathered_cosines(directions, self.weight, self.shadow.inverse_norm, pairs, known, self._buffer)
        return table_terms(self.loss, cosines, pairs, self.base)

    def _streamed(self, directions: Tensor, labels: Tensor, own: Own) -> RowTerms:
        columns = Columns(
            self.shadow, self._chunks(labels), self._log_base(), self._buffer, self.num_classes, self.ranks
        )
        return chunked_terms(self.loss, directions, self.weight, own, columns)

    def _chunks(self, labels: Tensor) -> list[Chunk]:
        """The classes that are here, with the labels among them."""
        classes = len(self.weight)
        return chunks_of(labels - self._held().start, classes, self.chunk or default_chunk(len(labels), classes))

    def _log_base(self) -> Tensor | None:
        return None if self.base is None else self.base.to(self.weight.dtype).log()
