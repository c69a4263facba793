"""Parts of a training's config that most runs leave as they are: averaged weights, and validation on the way."""

import math
from dataclasses import dataclass
from pathlib import Path

from qmargin.training._checks import at_least, in_range

# Of an exponential mean, what the weights after the first step may be; 3 / (1 - ema) steps leave so much.
FIRST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class AveragingConfig:
    """Which mean of the backbone's weights is evaluated; none unless said. The training itself does not change.

    Batch norms' running statistics are averaged as the weights are.

    Reference: Polyak and Juditsky, 1992; Izmailov et al., "Averaging weights leads to wider optima", UAI 2018.
    """

    ema: float | None = None
    """Exponential mean over the steps: average <- ema * average + (1 - ema) * weights, ema in [0, 1), e.g. 0.999."""
    last: int | None = None
    """Plain mean of so many states of the weights, the last one at the end of training, as WeSpeaker takes 10."""
    every: int | None = 1000
    """Steps between the states of `last`; None is one an epoch, whatever the batch size."""

    def __post_init__(self) -> None:
        """Refuse both at once, and values outside their ranges."""
        if self.ema is not None and self.last is not None:
            raise ValueError(
                "averaging.ema and averaging.last are two answers to one question, which weights to evaluate: set one "
                "of them to None"
            )
        if self.ema is not None:
            in_range("averaging.ema", self.ema, 0.0, 1.0)
        if self.last is not None:
            at_least("averaging.last", self.last, 1)
        if self.every is not None:
            at_least("averaging.every", self.every, 1)

    def interval(self, steps_per_epoch: int | None) -> int:
        """Steps between the states of `last`.

        Args:
            steps_per_epoch: not needed where `every` says how many.

        Raises:
            ValueError: there is neither.
        """
        every = steps_per_epoch if self.every is None else self.every
        if every is None:
            raise ValueError("averaging.every None is once an epoch: pass steps_per_epoch, or set it")
        return every

    def check_steps(self, steps: int, steps_per_epoch: int | None = None) -> None:
        """Refuse a training of `steps` too short for the mean; `steps_per_epoch` is as in `interval`.

        That of `last` would be one of fewer states, that of `ema` for the most part the weights after the first step.
        """
        if self.ema:
            self._check_share(steps)
        if self.last is None:
            return
        every = self.interval(steps_per_epoch)
        if (self.last - 1) * every >= steps:
            reached = 1 + (steps - 1) // every
            apart = f"{every} steps apart" + (", once an epoch" if self.every is None else "")
            advice = f"averaging.every to at most {(steps - 1) // (self.last - 1)}, or " if self.last <= steps else ""
            raise ValueError(
                f"averaging.last asks for {self.last} states of the weights, {apart}, and this training of {steps} "
                f"steps has {reached}: set {advice}averaging.last to {reached}"
            )

    def _check_share(self, steps: int) -> None:
        """Refuse an exponential mean of which the first state, that it begins with, is too large a share."""
        assert self.ema is not None, "the caller asks that"
        share = self.ema ** (steps - 1)
        if share <= FIRST_SHARE:
            return
        at_most = math.floor(100 * FIRST_SHARE ** (1 / (steps - 1))) / 100 if steps > 1 else 0.0
        needed = 1 + math.ceil(math.log(FIRST_SHARE) / math.log(self.ema))
        raise ValueError(
            f"averaging.ema {self.ema:g} over this training of {steps} steps is to {share:.0%} the weights after the "
            f"first one, and a mean may be to {FIRST_SHARE:.0%}: set averaging.ema to at most {at_most:g}, or train "
            f"{needed:,} steps"
        )

    def is_due(self, step: int, steps: int, steps_per_epoch: int | None = None) -> bool:
        """Whether the weights after `step` of `steps` enter the mean; `steps_per_epoch` is as in `interval`.

        A function of the step: there is nothing to save.
        """
        if self.ema is not None or self.last is None:
            return self.ema is not None
        every, left = self.interval(steps_per_epoch), steps - step
        return left % every == 0 and left < self.last * every


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Figures during training, on held-out identities (`data.validation_identities`) and on pairs of `.bin` sets.

    They go to validation.csv in the run's folder and to TensorBoard. Where a mean of the weights is kept (`averaging`),
    it is what is validated.
    """

    every: int | None = None
    """Steps between two validations; there is one at the end too. None for none at all."""
    bins: tuple[Path, ...] = ()
    """`.bin` sets (lfw.bin, cfp_fp.bin, agedb_30.bin): figures NAME.accuracy (10-fold) and NAME.eer."""
    watch: str | None = None
    """Figure whose best weights are kept in best.safetensors: identities.eer, lfw.accuracy, ...; identities.tar is the
    one at whatever FAR there is, e.g. identities.tar@1e-03."""
    patience: int | None = None
    """Validations without a better figure to `watch` after which training ends; None trains to the end."""

    def __post_init__(self) -> None:
        """Refuse what would silently do nothing."""
        if self.every is not None:
            at_least("validation.every", self.every, 1)
        elif self.bins or self.watch is not None or self.patience is not None:
            raise ValueError(
                "validation.bins, watch and patience do nothing without validation.every: say after how many steps to "
                "validate, e.g. --validation.every 2000, or set none of them: --validation.bins without a file, "
                "--validation.watch None --validation.patience None"
            )
        if self.patience is not None:
            at_least("validation.patience", self.patience, 1)
            if self.watch is None:
                raise ValueError("validation.patience waits for a figure: name it with validation.watch")
        names = [path.stem for path in self.bins]
        if len(set(names)) < len(names):
            raise ValueError(f"two validation.bins have one name ({', '.join(names)}): their figures could not be told")
