"""Every exchange between the ranks that share the classes of a head, and what each one moves.

W ranks, B rows of the whole batch of which a rank brings b <= b* (the most of any rank), D dimensions, P candidates of
the whole batch of which a rank finds at most P*. Bytes are those one rank sends where collectives go round a ring, with
4 bytes a float32 number (8 with float64 prototypes):

    what                          collective      bytes a rank sends
    announce          (numbers)   all-gather      8 n (W - 1)
    gather_texts      (bytes)     all-gather      n* (W - 1), n* the longest: when a training starts
    gather_labels     (labels)    all-gather      8 b* (W - 1)
    gather_directions (forward)   all-gather      4 b* D (W - 1)
                      (backward)  reduce-scatter  4 b* D (W - 1)
    gather_candidates (forward)   all-gather      8 P* (W - 1), 12 P* with a base measure; backward nothing
    own_rows          (backward)  all-gather      4 b* (W - 1); forward nothing
    total, largest    (n numbers) all-reduce      4 n 2 (W - 1) / W, 8 n where sums are float64
    mean_of_ranks     (n numbers) all-reduce      4 n 2 (W - 1) / W, forward and backward: batch norms, in training

None grows with the number of classes. `Group.sent` adds them up as they happen; benchmarks/sharded.py compares that
with what passes through the network.
"""

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

# torch 2.13 calls them so, and warns of the names of before
_all_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
_reduce_scatter = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor

LONGEST_REFUSAL = 1024  # bytes of an error's text that the other ranks are told


class Candidates(NamedTuple):
    """Pairs of a row and a class that some rank found; all (pairs,)."""

    cosine: Tensor  # differentiable
    key: Tensor  # int32, says the row
    base: Tensor | None  # measure of the class


class Group:
    """The ranks of a torch process group, with `sent`: bytes this rank has sent in rings, by what they were.

    Args:
        group: process group; None is the default one, of all processes.

    Raises:
        ValueError: no process group was started.

    Sibling: `qmargin.heads.ranks.ALONE`.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise ValueError(
                "a sharded head needs a process group: call torch.distributed.init_process_group first and start the "
                "processes with torchrun, or use StreamingHead, which needs none"
            )
        self.group = group
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
        if self.rank < 0:
            raise ValueError("this process is not one of the head's group: make the head on the ranks of the group")
        self.sent: Counter[str] = Counter()

    @property
    def device(self) -> torch.device:
        """Where the numbers of an exchange must be: this process' GPU with nccl, else the CPU's memory."""
        on_gpu = distributed.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Group":
        """The same processes: they cannot be copied."""
        return Group(self.group)

    # --- numbers and refusals ----------------------------------------------------------------------------------------

    def announce(self, numbers: list[int], refusal: ValueError | None) -> list[list[int]]:
        """What every rank announces, by rank; where one refuses its input, all raise its reason.

        Raises:
            ValueError: `rank R: ` and the refusal of the first rank that has one, on every rank.
        """
        own = torch.tensor([int(refusal is not None), *numbers], device=self.device)
        table = self._gathered("announce", own, [len(own)] * self.size).view(self.size, -1).tolist()
        refusing = [rank for rank, (refused, *_) in enumerate(table) if refused]
        if refusing:
            raise ValueError(f"rank {refusing[0]}: {self._text_of(refusing[0], refusal)}") from refusal
        return [row for _, *row in table]

    def _text_of(self, rank: int, refusal: ValueError | None) -> str:
        text = str(refusal or "").encode()[:LONGEST_REFUSAL].ljust(LONGEST_REFUSAL)
        own = torch.tensor(list(text), dtype=torch.uint8, device=self.device)
        texts = self._gathered("announce", own, [LONGEST_REFUSAL] * self.size).view(self.size, -1)
        return bytes(texts[rank].tolist()).decode(errors="replace").strip()

    def gather_texts(self, text: str) -> list[str]:
        """The text of every rank, by rank."""
        block = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        sizes = [size for (size,) in self.announce([len(block)], None)]
        return [bytes(part.tolist()).decode() for part in self._gathered("texts", block, sizes).split(sizes)]

    # --- rows of the batch -------------------------------------------------------------------------------------------

    def gather_labels(self, labels: Tensor, sizes: list[int]) -> Tensor:
        """Labels of the whole batch (B,), rank after rank, from those of this rank (b,)."""
        return self._gathered("labels", labels, sizes)

    def gather_directions(self, directions: Tensor, sizes: list[int], factor: float) -> Tensor:
        """Directions of the whole batch (B, dim), rank after rank, from those of this rank (b, dim).

        Backward: the sum over the ranks of the gradients of this rank's rows, times `factor`.
        """
        gathered: Tensor = _GatherDirections.apply(directions, self, sizes, factor)  # type: ignore[no-untyped-call] # torch's own
        return gathered

    def own_rows(self, values: Tensor, sizes: list[int]) -> Tensor:
        """Of values every rank has (B,) those of this rank's rows (b,).

        Backward: each rank has the gradients of its own rows, and all get those of all rows.
        """
        rows: Tensor = _OwnRows.apply(values, self, sizes)  # type: ignore[no-untyped-call]
        return rows

    # --- classes -----------------------------------------------------------------------------------------------------

    def gather_candidates(self, cosine: Tensor, key: Tensor, base: Tensor | None, counts: list[int]) -> Candidates:
        """The candidates of every rank (P,), rank after rank, from those of this rank.

        Backward: every rank has solved the same problem, so each takes the gradients of its own candidates.
        """
        columns = [cosine.detach(), *([] if base is None else [base.to(cosine.dtype)])]
        parts = [column.unsqueeze(1).view(torch.uint8) for column in [*columns, key.to(torch.int32)]]
        # in one message: the bytes of a candidate lie together (pairs, bytes)
        message = self._gathered("candidates", torch.cat(parts, dim=1), counts)
        fields = message.split([part.shape[1] for part in parts], dim=1)
        *numbers, keys = (field.contiguous() for field in fields)
        cosines, *bases = (number.view(cosine.dtype).squeeze(1) for number in numbers)
        cosines = _Shared.apply(cosine, cosines, self, counts)  # type: ignore[no-untyped-call]
        return Candidates(cosines, keys.view(torch.int32).squeeze(1), bases[0] if bases else None)

    def gather_prototypes(self, shard: Tensor, sizes: list[int]) -> Tensor:
        """All prototypes (classes, dim) from the shard of each rank: 4 C D bytes, for tests and export alone."""
        return self._gathered("prototypes", shard, sizes)

    def total(self, sums: Tensor) -> Tensor:
        """Sums over the own classes become sums over all classes."""
        return self._reduced("total", sums, distributed.ReduceOp.SUM)

    def largest(self, maxima: Tensor) -> Tensor:
        """Maxima over the own classes become maxima over all classes: of bounds, cosines, and flags as 0 and 1."""
        return self._reduced("largest", maxima, distributed.ReduceOp.MAX)

    def log_total(self, logs: Tensor) -> Tensor:
        """Logarithms of sums over the own classes become those of sums over all classes."""
        top = self.largest(logs).clamp_min(torch.finfo(logs.dtype).min)  # -inf of a rank that has only the label
        return top + self.total((logs - top).exp()).log()

    def mean_of_ranks(self, values: Tensor) -> Tensor:
        """Mean over the ranks (any shape), each of which has the mean of as many rows; differentiable in them."""
        mean: Tensor = _MeanOfRanks.apply(values, self)  # type: ignore[no-untyped-call]
        return mean

    # --- what all of them use ----------------------------------------------------------------------------------------

    def _reduced(self, name: str, values: Tensor, operation: Any) -> Tensor:  # noqa: ANN401 - torch's own
        values = values.contiguous().clone()
        distributed.all_reduce(values, operation, group=self.group)
        self.sent[name] += 2 * (self.size - 1) * values.nbytes // self.size
        return values

    def _gathered(self, name: str, block: Tensor, sizes: list[int]) -> Tensor:
        """Blocks (n, ...) of every rank, one after the other; `sizes` says their n."""
        most = max(sizes)
        padded = _padded(block, most)
        gathered = padded.new_empty(self.size * most, *padded.shape[1:])
        if most > 0:
            _all_gather(gathered, padded, group=self.group)
        self.sent[name] += (self.size - 1) * padded.nbytes
        if all(size == most for size in sizes):
            return gathered
        return torch.cat([part[:size] for part, size in zip(gathered.split(most), sizes, strict=True)])

    def scattered_sum(self, name: str, values: Tensor, sizes: list[int]) -> Tensor:
        """Of the sum over the ranks of `values` (B, ...) the rows of this rank (b, ...)."""
        most = max(sizes)
        blocks = torch.cat([_padded(part, most) for part in values.split(sizes)])
        own = blocks.new_empty(most, *blocks.shape[1:])
        _reduce_scatter(own, blocks, group=self.group)
        self.sent[name] += (self.size - 1) * own.nbytes
        return own[: sizes[self.rank]]


def _padded(block: Tensor, rows: int) -> Tensor:
    if len(block) == rows:
        return block.contiguous()
    return torch.cat([block, block.new_zeros(rows - len(block), *block.shape[1:])])


class _GatherDirections(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own context
        directions: Tensor,
        ranks: Group,
        sizes: list[int],
        factor: float,
    ) -> Tensor:
        ctx.ranks, ctx.sizes, ctx.factor = ranks, sizes, factor
        gathered: Tensor = ranks._gathered("directions", directions, sizes)  # noqa: SLF001 - of this module
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        own = ctx.ranks.scattered_sum("gradients of directions", grad, ctx.sizes)
        return own * ctx.factor, None, None, None


class _MeanOfRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Group) -> Tensor:  # noqa: ANN401
        ctx.ranks = ranks
        return ranks.total(values) / ranks.size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return ctx.ranks.total(grad) / ctx.ranks.size, None


class _OwnRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Group, sizes: list[int]) -> Tensor:  # noqa: ANN401
        ctx.ranks, ctx.sizes = ranks, sizes
        rows: Tensor = values.split(sizes)[ranks.rank].clone()
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return ctx.ranks._gathered("gradients of rows", grad, ctx.sizes), None, None  # noqa: SLF001


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _own: Tensor, everyone: Tensor, ranks: Group, counts: list[int]) -> Tensor:  # noqa: ANN401
        ctx.ranks, ctx.counts = ranks, counts
        return everyone.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return grad.split(ctx.counts)[ctx.ranks.rank], None, None, None
