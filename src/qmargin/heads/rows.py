"""Rows with few candidates: laid out in tables, which the loss solves as if they held all classes."""

import torch
from torch import Tensor
from torch.profiler import record_function

from qmargin.heads.contract import RowTerms
from qmargin.heads.gathered import Pairs
from qmargin.losses import AlphaLoss

TABLE = 1 << 18  # entries of a table that is not worth splitting


def join_rows(parts: list[tuple[Tensor, RowTerms]]) -> RowTerms:
    """Terms of disjoint sets of rows, each with the indices of its rows, in the order of the batch."""
    order = torch.cat([index for index, _ in parts]).argsort()
    return RowTerms(*(torch.cat(values)[order] for values in zip(*(terms for _, terms in parts), strict=True)))


def table_terms(loss: AlphaLoss, cosines: Tensor, pairs: Pairs, base: Tensor | None) -> RowTerms:
    """Solve each row on its own candidates, the first of which is its label.

    Args:
        loss: the loss of a row of cosines.
        cosines: one for each pair (pairs,).
        pairs: rows and classes, ordered by row.
        base: base measure of all classes (classes,).

    Returns:
        The terms of every row: those of all classes, where the candidates hold the support.
    """
    widths = torch.bincount(pairs.row, minlength=len(pairs.start))
    with record_function("qmargin::solve"):
        parts = [(members, _one_table(loss, cosines, pairs, base, members)) for members in _tables(widths)]
        return parts[0][1] if len(parts) == 1 else join_rows(parts)


def _tables(widths: Tensor) -> list[Tensor]:
    """Rows in groups of like width, so that padding is bounded: each at most four times as wide as its narrowest."""
    if int(widths.amax()) * len(widths) <= TABLE:
        return [torch.arange(len(widths), device=widths.device)]
    level = (widths.double().log2() / 2.0).floor()
    return [(level == value).nonzero().squeeze(1) for value in level.unique()]


def _one_table(loss: AlphaLoss, cosines: Tensor, pairs: Pairs, base: Tensor | None, members: Tensor) -> RowTerms:
    if len(members) < len(pairs.start):
        place = torch.full_like(pairs.start, -1)
        place[members] = torch.arange(len(members), device=members.device)
        chosen = (place[pairs.row] >= 0).nonzero().squeeze(1)
        cosines = cosines[chosen]
        pairs, _ = Pairs.ordered(place[pairs.row[chosen]], pairs.column[chosen], len(members))  # in order as they are
    counts = torch.bincount(pairs.row, minlength=len(members))
    position = torch.arange(len(pairs.row), device=members.device) - pairs.start[pairs.row]
    at = (pairs.row, position)
    shape = (len(members), int(counts.amax()))
    table = cosines.new_full(shape, -torch.inf).index_put(at, cosines)  # (members, width); -inf masks
    measures = None if base is None else base.new_ones(shape).index_put(at, base[pairs.column])
    terms = loss.terms(table, torch.zeros_like(members), measures)
    with torch.no_grad():
        correct = (table >= terms.target_cosine.unsqueeze(1)).sum(dim=1) == 1
    return RowTerms(*terms, correct, counts, torch.zeros_like(correct))
