"""The learning rate as a pure function of the step: nothing to save, nothing to get out of step on resuming."""

import math
from collections.abc import Callable

# share of the peak learning rate after `done` in [0, 1] of the steps that follow warm-up; `last` is that of their end
DECAYS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda done, _: 1.0 - done,
    "cosine": lambda done, _: 0.5 * (1.0 + math.cos(math.pi * done)),
    "constant": lambda _done, _last: 1.0,
    "exponential": lambda done, last: last**done,
}


def learning_rate(step: int, steps: int, peak: float, warmup: float, decay: str, final: float | None = None) -> float:
    """Learning rate of `step` in [0, steps): linear rise over `warmup * steps` steps, then the decay.

    `final` is what the exponential decay reaches at the end; the others take none.

    Example:
        >>> [round(learning_rate(step, 10, peak=0.1, warmup=0.2, decay="linear"), 4) for step in (0, 1, 2, 6, 9)]
        [0.05, 0.1, 0.1, 0.05, 0.0125]
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    assert (final is None) == (decay != "exponential"), (decay, final)
    last = 0.0 if final is None else final / peak
    return peak * DECAYS[decay]((step - rising) / (steps - rising), last)
