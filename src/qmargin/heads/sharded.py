"""The sharded head: the streaming head with its classes shared out over the ranks of torch.distributed."""

import zlib
from typing import Any, Literal, get_args

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from qmargin.divergence.inputs import to_compute_dtype
from qmargin.heads.chunked import Own
from qmargin.heads.collectives import Group
from qmargin.heads.contract import PROTOTYPE_STD, HeadStats, Reduction, RowTerms
from qmargin.heads.gathered import Pairs, gathered_cosines, pair_cosines
from qmargin.heads.partition import Partition
from qmargin.heads.products import Precision, screening_precision
from qmargin.heads.rows import table_terms
from qmargin.heads.screening import Survivors
from qmargin.heads.streaming import StreamingHead
from qmargin.losses import AlphaLoss
from qmargin.optim import Update

BackboneGradients = Literal["averaged", "summed"]
DRAWN = 1 << 22  # numbers drawn at once, a multiple of the 16 that torch draws together


class ShardedHead(StreamingHead):
    """Exact head whose classes are shared out over ranks: loss and gradients of one `StreamingHead` with all of them.

    Every rank calls it at the same time with its own part of the batch (of any size >= 1, of its own size):

        loss = head(embeddings, labels)          # (b, dim), (b,) with labels in [0, classes), on every rank

    The loss is the mean over the GLOBAL batch, the same number on every rank. What is minimised is the sum over the
    ranks of what each calls `backward` on, each counting its own rows: B rows, each with weight 1 / B.

        gradient of the prototypes: that of the global mean; local and complete, nothing is left to reduce
        gradient of the embeddings: that of the global mean, times the number of ranks where the backbone's gradients
            are "averaged" over the ranks afterwards, as DistributedDataParallel and FSDP do

    A rank streams its own classes for the rows of all ranks; exchanged are embeddings, bounds, and the few candidates
    that survive (`qmargin.heads.collectives` lists the bytes; none grow with the number of classes).

    Args:
        num_classes: C of all ranks together; rank r holds the classes `head.class_range`, `Partition(C, ranks).of(r)`.
        embedding_dim, loss, precision, chunk, update, reduction: as `StreamingHead`, the same on every rank;
            "none" returns the losses of this rank's rows (b,).
        group: process group that shares the classes; None is all processes.
        backbone_gradients: how the backbone's gradients will be combined over the ranks: "averaged" (default), as DDP
            and FSDP do, or "summed", as an all-reduce with SUM does.
        base: base measure of ALL classes (classes,), of which the own ones are kept.
        device, dtype: of the prototypes.

    `head.weight` is the local shard (own classes, dim), `head.full_weight()` all of it. Keep the head out of
    DistributedDataParallel: its shards differ. `head.make_optimizer` and `head.make_adamw` move the shard. Clipping by
    the global norm: `qmargin.optim.clip_grad_norm_(..., shards=[head.weight], total=head.ranks.total)`. Loss scaling:
    torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler, because an overflow may be seen by one rank alone.

    The prototypes start as those of one process with the same generator, for any number of ranks: each rank draws all
    numbers on the CPU and keeps its own.

    Example (one process; with torchrun, the same on each):
        >>> from qmargin import QMargin
        >>> from qmargin.heads import ShardedHead
        >>> torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> head = ShardedHead(num_classes=1000, embedding_dim=64, loss=QMargin())
        >>> head(torch.randn(8, 64), torch.arange(8)).backward()
        >>> head.class_range, head.weight.grad.layout
        (range(0, 1000), torch.sparse_coo)
        >>> torch.distributed.destroy_process_group()

    Raises:
        ValueError: as `StreamingHead`; no process group; a rank without classes. On calling it, what one rank refuses
            is raised by all, as `rank R: ...`; ranks with other settings.

    Reference: An et al., 2021, Partial FC (arXiv 2010.05222), the sharding; its sampling is not needed here.
    Sibling: `StreamingHead`.
    """

    ranks: Group

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        loss: AlphaLoss,
        *,
        group: distributed.ProcessGroup | None = None,
        backbone_gradients: BackboneGradients = "averaged",
        precision: Precision = "auto",
        chunk: int | None = None,
        update: Update = "dense",
        reduction: Reduction = "mean",
        base: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if backbone_gradients not in get_args(BackboneGradients):
            raise ValueError(f"backbone_gradients must be 'averaged' or 'summed', got {backbone_gradients!r}")
        self.backbone_gradients = backbone_gradients
        self.ranks = Group(group)
        super().__init__(
            num_classes,
            embedding_dim,
            loss,
            precision=precision,
            chunk=chunk,
            update=update,
            reduction=reduction,
            base=base,
            device=device,
            dtype=dtype,
        )

    @property
    def partition(self) -> Partition:
        """Which rank holds which classes."""
        return Partition(self.num_classes, self.ranks.size)

    @property
    def class_range(self) -> range:
        """The classes whose prototypes are the rows of `weight`."""
        return self.partition.of(self.ranks.rank)

    def _held(self) -> range:
        return self.class_range

    @torch.no_grad()
    def full_weight(self) -> Tensor:
        """The prototypes of all classes (classes, dim), on every rank; for tests and export: 4 C D bytes each."""
        return self.ranks.gather_prototypes(self.weight, self.partition.sizes)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the prototypes anew from normal(0, 0.01) with torch's CPU generator, as one process draws them all."""
        first, last = self.class_range.start * self.embedding_dim, self.class_range.stop * self.embedding_dim
        total = self.num_classes * self.embedding_dim
        flat = self.weight.view(-1)
        begin = 0
        while begin < total:
            end = begin + DRAWN if total - begin >= 2 * DRAWN else total  # a short rest would be drawn another way
            drawn = torch.empty(end - begin, dtype=self.weight.dtype).normal_(std=PROTOTYPE_STD)
            low, high = max(begin, first), min(end, last)
            if low < high:
                flat[low - first : high - first] = drawn[low - begin : high - begin]
            begin = end

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's own
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of the batch of all ranks.

        Args:
            embeddings: (b, dim) of this rank, floating point, any norm but zero.
            labels: (b,) integer, in [0, classes).

        Returns:
            Scalar of all ranks' rows ("mean", "sum"), or (b,) ("none").

        Raises:
            ValueError: what a rank refuses, on every rank.
        """
        with torch.autocast(device_type=self.weight.device.type, enabled=False):
            directions, refusal = embeddings, None
            try:
                self._check(embeddings, labels)
                directions = self._directions(to_compute_dtype(embeddings)).to(self.weight.dtype)
            except ValueError as error:
                refusal = error
            sizes = self._sizes(directions, refusal)
            factor = float(self.ranks.size) if self.backbone_gradients == "averaged" else 1.0
            terms = self._terms(
                self.ranks.gather_directions(directions, sizes, factor), self.ranks.gather_labels(labels.long(), sizes)
            )
            self._stats = HeadStats.of(terms)
            return self._reduced(terms.loss, sizes)

    def _reduced(self, losses: Tensor, sizes: list[int]) -> Tensor:
        """Of the losses of all ranks' rows (B,): the value of all, the gradient of the own."""
        rows = self.ranks.own_rows(losses, sizes)
        if self.reduction == "none":
            return rows
        count = len(losses) if self.reduction == "mean" else 1
        value: Tensor = _WholeOfPart.apply(losses.detach().sum() / count, rows.sum() / count)  # type: ignore[no-untyped-call]
        return value

    def _sizes(self, directions: Tensor, refusal: ValueError | None) -> list[int]:
        """Rows of every rank; refuses what they do not agree on."""
        precision = screening_precision(self.precision, self.weight.device)
        settings = (
            self.num_classes, self.embedding_dim, self.loss, self.reduction, precision, self.backbone_gradients,
            self.base is None, self.weight.dtype,
        )  # fmt: skip
        graph = torch.is_grad_enabled() and directions.requires_grad
        own = [len(directions), zlib.crc32(repr(settings).encode()), int(graph)]
        table = self.ranks.announce(own, refusal)
        for rank, (_, checksum, wants) in enumerate(table):
            if checksum != table[0][1]:
                raise ValueError(
                    f"ranks 0 and {rank} have heads with other settings (classes, dim, loss, reduction, precision, "
                    f"base): make them, and change head.loss, alike on all ranks; here they are {settings}"
                )
            if wants != table[0][2]:
                raise ValueError(
                    f"of ranks 0 and {rank} only one has embeddings that require a gradient: freeze the backbone, or "
                    "use torch.no_grad, on all ranks alike"
                )
        return [size for size, *_ in table]

    def _mine(self, labels: Tensor) -> Tensor:
        """Rows whose label is a class of this rank."""
        return (self.partition.owner(labels) == self.ranks.rank).nonzero().squeeze(1)

    @torch.no_grad()
    def _own(self, directions: Tensor, labels: Tensor) -> Own:
        mine = self._mine(labels)
        columns = labels[mine] - self.class_range.start
        known = directions.new_zeros(1 if self.base is None else 2, len(labels))
        known[0, mine] = pair_cosines(directions, self.weight, self.shadow.inverse_norm, mine, columns)
        log_base = self._log_base()
        if log_base is not None:
            known[1, mine] = log_base[columns]
        known = self.ranks.total(known)  # of each row one rank knows, the others add 0
        return Own(known[0], None if log_base is None else known[1])

    def _screened(self, directions: Tensor, labels: Tensor, own: Own) -> Survivors:
        refusal, survivors = None, None
        try:
            survivors = super()._screened(directions, labels, own)
        except ValueError as error:
            refusal = error
        found = 0 if survivors is None else len(survivors.row)
        counts = self.ranks.announce([found], refusal)
        assert survivors is not None, "a refusal was announced, and raised"
        return survivors._replace(counts=[count for (count,) in counts])

    def _gathered(self, directions: Tensor, labels: Tensor, own: Own, survivors: Survivors) -> RowTerms:
        mine = self._mine(labels)
        row = torch.cat([mine, survivors.row])
        column = torch.cat([labels[mine] - self.class_range.start, survivors.column])
        key = 2 * row + 1  # in order of rows, the label of each first
        key[: len(mine)] -= 1
        pairs, order = Pairs.ordered(row, column, len(labels))
        known = torch.cat([own.cosine[mine], survivors.cosine])[order]
        cosines = gathered_cosines(directions, self.weight, self.shadow.inverse_norm, pairs, known, self._buffer)
        assert survivors.counts is not None, "the ranks have told each other"
        labelled = torch.bincount(self.partition.owner(labels), minlength=self.ranks.size).tolist()
        counts = [a + b for a, b in zip(survivors.counts, labelled, strict=True)]
        base = None if self.base is None else self.base[pairs.column]
        candidates = self.ranks.gather_candidates(cosines, key[order], base, counts)
        keys, order = candidates.key.sort(stable=True)
        everyones, again = Pairs.ordered((keys // 2).long(), order, len(labels))
        return table_terms(self.loss, candidates.cosine[order[again]], everyones, candidates.base)


class _WholeOfPart(torch.autograd.Function):
    """The value of the whole, the gradient of the part."""

    @staticmethod
    def forward(_ctx: Any, whole: Tensor, _part: Tensor) -> Tensor:  # noqa: ANN401 - torch's own context
        return whole.clone()

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        return None, grad
