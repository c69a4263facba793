"""Peers of the streaming head that the package itself does not carry; `benchmarks/head.py` measures them.

Cross-entropies of normalised rows (NormFace, no margin): what the libraries beside us compute.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin.bench import plan
from qmargin.bench.contenders import LEARNING_RATE, MOMENTUM, Contender
from qmargin.bench.measure import Side
from qmargin.bench.plan import Cost, Problem
from qmargin.bench.scene import Batch, Scene

CHUNK = 4096  # classes at once, of the chunked cross-entropy


class _Peer(Contender):
    """A cross-entropy at `scale` under torch.optim.SGD."""

    def __init__(self, scene: Scene, scale: float) -> None:
        super().__init__(scene)
        self.scale = scale
        self.optimizer = torch.optim.SGD([self.weight], lr=LEARNING_RATE, momentum=MOMENTUM)


class ChunkedCrossEntropy(_Peer):
    """Exact, chunk by chunk of the classes: running logsumexp forward, chunks computed again backward."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss, no (batch, classes) matrix."""
        result: Tensor = _Chunked.apply(F.normalize(batch.embeddings), self.weight, batch.labels, self.scale)  # type: ignore[no-untyped-call] # torch's own
        return result


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, weight: Tensor, labels: Tensor, scale: float) -> Tensor:  # noqa: ANN401
        lse = torch.full((len(labels),), -torch.inf)
        for rows in weight.split(CHUNK):
            lse = torch.logaddexp(lse, (scale * directions @ F.normalize(rows).T).logsumexp(1))
        own = scale * (directions * F.normalize(weight[labels])).sum(1)
        ctx.save_for_backward(directions, weight, labels, lse)
        ctx.scale = scale
        return (lse - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        directions, weight, labels, lse = ctx.saved_tensors
        grad_directions, grad_weight = torch.zeros_like(directions), torch.empty_like(weight)
        for low in range(0, len(weight), CHUNK):
            part = slice(low, low + CHUNK)
            with torch.enable_grad():
                rows = weight[part].detach().requires_grad_()
                leaf = directions.detach().requires_grad_()
                logits = ctx.scale * leaf @ F.normalize(rows).T  # (batch, chunk)
            p = (logits.detach() - lse.unsqueeze(1)).exp()
            inside = ((labels >= low) & (labels < low + len(rows))).nonzero().squeeze(1)
            p[inside, labels[inside] - low] -= 1.0
            p *= grad / len(labels)
            from_leaf, grad_weight[part] = torch.autograd.grad(logits, (leaf, rows), p)
            grad_directions += from_leaf
        return grad_directions, grad_weight, None, None


class LinearCrossEntropy(_Peer):
    """`torch.nn.functional.linear_cross_entropy` (torch >= 2.13); `chunked` turns on its chunks of the batch."""

    def __init__(self, scene: Scene, scale: float, *, chunked: bool) -> None:
        super().__init__(scene, scale)
        self.options = torch.nn.LinearCrossEntropyOptions() if chunked else None

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss."""
        embeddings = self.scale * F.normalize(batch.embeddings)
        result: Tensor = F.linear_cross_entropy(
            embeddings, F.normalize(self.weight), batch.labels, options=self.options
        )
        return result


class CutCrossEntropy(_Peer):
    """`cut_cross_entropy.linear_cross_entropy(impl="torch_compile")`; its own kernel, impl="cce", needs a GPU."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean loss."""
        from cut_cross_entropy import linear_cross_entropy  # noqa: PLC0415 - an extra, `pip install .[bench]`

        embeddings = self.scale * F.normalize(batch.embeddings)
        result: Tensor = linear_cross_entropy(embeddings, F.normalize(self.weight), batch.labels, impl="torch_compile")
        return result


def chunked_cost(problem: Problem) -> Cost:
    """That of the streaming head at alpha = 1, which computes the same way."""
    return plan.streaming(plan.Problem(classes=problem.classes, dim=problem.dim, batch=problem.batch, alpha=1.0))


def peer_sides(scale: float = 64.0) -> list[Side]:
    """All of them, with ArcFace's usual scale."""
    return [
        Side("chunked cross-entropy", partial(ChunkedCrossEntropy, scale=scale), chunked_cost, scale=scale),
        Side("linear_cross_entropy", partial(LinearCrossEntropy, scale=scale, chunked=False), plan.plain, scale=scale),
        Side(
            "linear_cross_entropy chunked",
            partial(LinearCrossEntropy, scale=scale, chunked=True),
            plan.plain,
            scale=scale,
        ),
        Side("cut-cross-entropy torch_compile", partial(CutCrossEntropy, scale=scale), plan.plain, scale=scale),
    ]
