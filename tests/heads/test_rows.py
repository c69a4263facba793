"""Rows with few candidates in tables: they are solved as if the table held every class."""

import pytest
import torch
from torch import Tensor

from qmargin import QMargin
from qmargin.heads import rows
from qmargin.heads.contract import RowTerms
from qmargin.heads.gathered import Pairs
from qmargin.heads.rows import join_rows, table_terms


def ragged(widths: list[int]) -> tuple[Tensor, Pairs]:
    """Cosines of rows with that many candidates each, the first the label: (pairs,)."""
    torch.manual_seed(2)
    row = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
    column = torch.cat([torch.randperm(500)[:width] for width in widths])
    pairs, _ = Pairs.ordered(row, column, len(widths))
    return torch.rand(len(row), dtype=torch.float64) - 0.5, pairs


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("with_base", [False, True])
def test_each_row_is_solved_as_if_alone(split: bool, with_base: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths from 1 to 300: one padded table, or several of like widths, in the order of the rows."""
    monkeypatch.setattr(rows, "TABLE", 0 if split else 1 << 18)
    widths, loss = [7, 300, 1, 2, 40, 45, 1], QMargin(scale=4.0)
    cosines, pairs = ragged(widths)
    base = torch.linspace(0.1, 4.0, 500, dtype=torch.float64) if with_base else None
    terms = table_terms(loss, cosines.requires_grad_(), pairs, base)
    gradient = torch.autograd.grad(terms.loss.sum(), cosines)[0].split(widths)
    for number, (alone, columns) in enumerate(zip(cosines.split(widths), pairs.column.split(widths), strict=True)):
        leaf = alone.detach().clone().requires_grad_()
        expected = loss.terms(leaf.unsqueeze(0), torch.tensor([0]), None if base is None else base[columns])
        for ours, theirs in zip(terms[:4], expected, strict=True):
            torch.testing.assert_close(ours[number], theirs[0], rtol=1e-12, atol=1e-14)
        assert bool(terms.correct[number]) == bool((leaf[1:] < leaf[0]).all())
        assert int(terms.candidates[number]) == len(alone)
        torch.testing.assert_close(gradient[number], torch.autograd.grad(expected.loss.sum(), leaf)[0])
    assert not terms.fallback.any()


def test_a_table_is_at_most_four_times_as_wide_as_its_narrowest_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TABLE", 0)
    widths = torch.randint(1, 5000, (200,), generator=torch.Generator().manual_seed(0))
    tables = rows._tables(widths)
    assert torch.cat(tables).sort().values.tolist() == list(range(200))
    for members in tables:
        assert widths[members].max() <= 4 * widths[members].min()


def test_joined_rows_come_in_the_order_of_the_batch() -> None:
    def terms(*numbers: float) -> RowTerms:
        return RowTerms(*[torch.tensor(numbers)] * len(RowTerms._fields))

    joined = join_rows([(torch.tensor([3, 0]), terms(30.0, 0.0)), (torch.tensor([1, 2]), terms(10.0, 20.0))])
    assert all(field.tolist() == [0.0, 10.0, 20.0, 30.0] for field in joined)
