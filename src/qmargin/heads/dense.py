"""The dense head: the specification of all others. Obvious, any alpha, O(batch x classes) memory."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name the field uses

from qmargin.divergence.inputs import to_compute_dtype
from qmargin.heads.contract import Head, RowTerms, unit_rows


class DenseHead(Head):
    """Prototypes with every cosine of the batch in memory: `loss(normalize(e) @ normalize(W).T, labels)`.

    Args:
        num_classes: C, number of identities.
        embedding_dim: D, size of an embedding.
        loss: a row of the family, e.g. `QMargin()`; assign `head.loss` to change it between steps.
        reduction: "mean" (default), "sum", or "none" for the loss of each row (batch,).
        base: optional base measure (classes,), see `qmargin.heads.Head`.
        device, dtype: of the prototypes.

    Calling it: `head(embeddings, labels)` with embeddings (batch, dim) and labels (batch,) integer in [0, classes);
    then `head.stats` holds support size, margin-free accuracy and more. Errors and precision: see `Head`. Works with
    torch.optim, autocast, DistributedDataParallel and torch.compile (where the checks become device-side assertions).

    Example:
        >>> from qmargin import DenseHead, QMargin
        >>> _ = torch.manual_seed(0)
        >>> head = DenseHead(num_classes=1000, embedding_dim=64, loss=QMargin(alpha=1.5, margin=0.1, scale=6))
        >>> loss = head(torch.randn(8, 64), torch.arange(8))
        >>> loss.backward()
        >>> head.weight.grad.shape, head.stats.zero_loss.item()
        (torch.Size([1000, 64]), 0.0)

    Reference: Deng et al., 2019 (the head of ArcFace); Koutsianos et al., arXiv 2606.31664 (the sparse losses).
    """

    def _evaluate(self, embeddings: Tensor, labels: Tensor) -> RowTerms:
        directions = unit_rows(embeddings, "an embedding must be finite and not zero; look for NaN or a dead backbone")
        prototypes = unit_rows(
            to_compute_dtype(self.weight),
            "a prototype (row of head.weight) must be finite and not zero; was it loaded?",
        )
        dtype = torch.promote_types(directions.dtype, prototypes.dtype)
        cosines = F.linear(directions.to(dtype), prototypes.to(dtype))  # (batch, classes)
        terms = self.loss.terms(cosines, labels, self.base)
        with torch.no_grad():
            # the own cosine alone is the largest: a tie with another class is not correct
            correct = (cosines >= terms.target_cosine.unsqueeze(1)).sum(dim=1) == 1
            candidates = torch.full_like(labels, self.num_classes)
        return RowTerms(*terms, correct, candidates, torch.zeros_like(correct))
