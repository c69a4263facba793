"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step on resuming."""

import math
from collections.abc import Callable

# share of the peak learning rate after `done` in [0, 1] of the steps that follow warm-up
DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "constant": lambda _: 1.0,
}


def learning_rate(step: int, steps: int, peak: float, warmup: float, decay: str) -> float:
    """Learning rate of `step` in [0, steps): linear rise over `warmup * steps` steps, then the decay.

    Example:
        >>> [round(learning_rate(step, 10, peak=0.1, warmup=0.2, decay="linear"), 4) for step in (0, 1, 2, 6, 9)]
        [0.05, 0.1, 0.1, 0.05, 0.0125]
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * DECAYS[decay]((step - rising) / (steps - rising))
