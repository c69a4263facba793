"""Batch norms whose statistics are those of the global batch, on any device."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qmargin.heads.collectives import Group


class GlobalBatchNorm(_BatchNorm):
    """A batch norm over the rows of all ranks, each of which brings as many: what one process does with all of them.

        mean = mean over ranks and rows of x;  var = mean over ranks and rows of (x - mean)^2

    torch.nn.SyncBatchNorm does so on GPUs alone. Two all-reduces of (channels,) forward, two backward. Evaluation is
    that of the norm it replaces, and so are its weights and buffers.
    """

    ranks: Group

    @classmethod
    def of(cls, norm: _BatchNorm, ranks: Group) -> "GlobalBatchNorm":
        """The same norm, with the same tensors, over the rows of all ranks."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        new.ranks = ranks
        for store in ("_parameters", "_buffers"):
            setattr(new, store, getattr(norm, store))
        return new.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        """Any number of dimensions from two on; the norm it replaces had its own law."""
        assert input.ndim >= 2

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch's own; an exchange cannot be compiled
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise (rows, channels, ...)."""
        if not self.training:
            return super().forward(input)
        shape = (1, -1, *[1] * (input.ndim - 2))
        over = [0, *range(2, input.ndim)]
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        mean = self.ranks.mean_of_ranks(x.mean(over))  # (channels,)
        centred = x - mean.view(shape)
        variance = self.ranks.mean_of_ranks(centred.square().mean(over))  # (channels,)
        self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * self.ranks.size)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        out = centred * scale.view(shape)
        return (out if self.bias is None else out + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


def with_global_norms(module: nn.Module, ranks: Group) -> nn.Module:
    """The module with every batch norm over the rows of all ranks; parameters keep their names."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, GlobalBatchNorm.of(child, ranks))
        else:
            with_global_norms(child, ranks)
    return module
