"""Stop before a step that would ruin the weights, and say where the first bad number came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from qmargin.optim import coalesced
from qmargin.training.parallel import whole


def first_bad_layer(backbone: nn.Module, images: Tensor) -> str:
    """Name of the first layer whose output is not finite for `images`, by running them once more."""
    found: list[str] = []

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(f"{name} ({type(layer).__name__})")

        return layer.register_forward_hook(hook)

    handles = [watch(name, layer) for name, layer in backbone.named_modules() if not any(layer.children())]
    try:
        with torch.no_grad():
            backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return f"first seen in the output of backbone.{found[0]}" if found else "every layer of the backbone is finite"


def first_bad_gradient(modules: dict[str, nn.Module]) -> str:
    """Name of the first parameter, from the input on, whose gradient is not finite."""
    for owner, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and not bool(gradient_values(parameter.grad).isfinite().all()):
                return f"first seen in the gradient of {owner}.{name}"
    return "each gradient is finite, their norm is not"


def gradient_values(gradient: Tensor) -> Tensor:
    """The numbers of a gradient that may differ from zero: all of a dense one, the rows of a sparse one."""
    return coalesced(gradient).values() if gradient.is_sparse else whole(gradient)


class NonFiniteError(ValueError):
    """A loss, embedding or gradient is NaN or infinite."""


@contextmanager
def naming_the_batch(step: int, paths: list[str], run: Path) -> Iterator[None]:
    """Add step and images to a ValueError raised inside, and the way out where numbers left their range."""
    try:
        yield
    except ValueError as error:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        advice = ""
        if isinstance(error, NonFiniteError):
            advice = " Lower optimizer.learning_rate or loss.final.scale, or train with --precision float32."
        raise ValueError(
            f"training stopped before step {step}, no weight was changed by it, and what is saved in {run} is "
            f"untouched: {error}. The batch was {shown}.{advice}"
        ) from error
