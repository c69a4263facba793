"""The mean of the backbone's weights: exponential over the steps, or plain over the last states of a training."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qmargin.training.options import AveragingConfig

Tensors = tuple[Tensor, ...] | list[Tensor]
Rule = Callable[[Tensors, Tensors, Tensor | int], None]


def averaged_model(backbone: nn.Module, config: AveragingConfig) -> AveragedModel | None:
    """Where the mean is kept, a copy of the backbone; None where none is.

    `AveragedModel.update_parameters` takes the weights in: at first as they are, then
    `average <- ema * average + (1 - ema) * weights`, or for `last` the plain mean of all that entered. Running
    statistics of batch norms are averaged alike; counts of batches are rounded.

    Args:
        backbone: whose weights.
        config: which mean; `config.is_due` says after which steps weights enter.
    """
    if config.ema is None and config.last is None:
        return None
    rule = None if config.ema is None else _apart(get_ema_multi_avg_fn(config.ema))
    average = AveragedModel(backbone, multi_avg_fn=rule, use_buffers=True)
    average.module.eval()
    return average


def _apart(rule: Rule) -> Rule:
    """Torch's rule for weights that are shared out over ranks, and for those that are not: it takes no mixture."""

    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        for shared in (True, False):
            chosen = [place for place, weight in enumerate(weights) if isinstance(weight, DTensor) == shared]
            if chosen:
                rule([averages[place] for place in chosen], [weights[place] for place in chosen], count)

    return update
