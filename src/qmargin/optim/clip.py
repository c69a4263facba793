"""Clipping by the global norm, over dense and sparse gradients together."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from qmargin.optim._chunks import coalesced, touched_rows
from qmargin.optim.rows import check_setting


@torch.no_grad()
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    *,
    error_if_nonfinite: bool = False,
    shards: Iterable[Tensor] = (),
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Scale all gradients in place so that their common 2-norm is at most `max_norm`; returns the norm before.

    As torch.nn.utils.clip_grad_norm_, which refuses sparse gradients. Duplicated rows are added up first (the norm is
    that of the sum), and the coalesced gradient is stored in `.grad`.

        norm = sqrt(sum over gradients of |g|_2^2);  g <- g * min(1, max_norm / (norm + 1e-6))

    Args:
        parameters: parameters, or one; those without gradient are skipped. Several devices are allowed.
        max_norm: largest norm, >= 0.
        error_if_nonfinite: raise where the norm is NaN or infinite (a host read); else such a norm spreads to every
            gradient.
        shards: further parameters, of which the other ranks hold other rows: the prototypes of a sharded head. Their
            squares are added up over the ranks, those of `parameters`, alike on every rank, are counted once.
        total: adds a tensor up over the ranks that hold the shards: `head.ranks.total`.

    Returns:
        0-dimensional tensor on the device of the first gradient; 0 where there is none.

    Raises:
        ValueError: `max_norm` is no number >= 0, a sparse gradient has more than one sparse dimension, or `shards`
            without `total`.
        RuntimeError: the norm is not finite and `error_if_nonfinite`, from torch.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(4, 2))
        >>> weight.grad = torch.sparse_coo_tensor([[2, 2]], [[3.0, 0.0], [0.0, 4.0]], (4, 2), check_invariants=True)
        >>> clip_grad_norm_([weight], max_norm=1.0)
        tensor(5.)
        >>> weight.grad.values()
        tensor([[0.6000, 0.8000]])
    """
    check_setting("max_norm", max_norm)
    shards = list(shards)
    if shards and total is None:
        raise ValueError("the norm over shards is that of all ranks: pass total=head.ranks.total beside shards")
    values = _values([parameters] if isinstance(parameters, Tensor) else parameters)
    norm = torch.nn.utils.get_total_norm(values, error_if_nonfinite=error_if_nonfinite and not shards)
    if shards:
        assert total is not None
        own = _values(shards)
        square = torch.nn.utils.get_total_norm(own).square().to(shards[0])
        norm = (norm.square() + total(square).to(norm)).sqrt()
        if error_if_nonfinite:
            torch.nn.utils.get_total_norm([norm], error_if_nonfinite=True)
        values += own
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(factor.to(value.device))
    return norm


def _values(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients' numbers, in place."""
    values = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = coalesced(parameter.grad)
        values.append(touched_rows(parameter.grad)[1])
    return values
