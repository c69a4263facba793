"""Validation on the way: when, what is better, the best weights, and when waiting is over."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from qmargin.training.checkpoint import State
from qmargin.training.config import TrainConfig
from qmargin.training.log import TrainingLog
from qmargin.training.model_file import model_config, write_model
from qmargin.training.parallel import gathered
from qmargin.training.ranks import SilentLog, own_rank
from qmargin.training.state import TrainingState

LOWER_IS_BETTER = ("eer",)  # last part of a figure's name; of all others higher is better


@dataclass(frozen=True)
class Validator:
    """What a training calls at each validation.

    Args:
        names: of the figures, known before the first step.
        figures: a backbone -> figures by name.
    """

    names: tuple[str, ...]
    figures: Callable[[nn.Module], dict[str, float]]

    def __call__(self, backbone: nn.Module) -> dict[str, float]:
        """The figures; a ValueError where they are not those of `names`."""
        figures = self.figures(backbone)
        if set(figures) != set(self.names):
            raise ValueError(
                f"a Validator's figures are those it has named, {', '.join(self.names)}; it gave {', '.join(figures)}"
            )
        return figures


@dataclass
class Watched:
    """What early stopping knows; it goes into the checkpoint."""

    best: float | None = None
    step: int = 0  # of the best figure
    waited: int = 0  # validations since then
    done: bool = False  # waiting is over


class Validation:
    """The validations of a run.

    Args:
        config: of the run.
        validate: computes the figures; see `qmargin.protocols.training_validator`.
        best: the model file of the best weights.

    Raises:
        ValueError: `validation.every` is set and `validate` is missing, or the figure to watch is none of its own.
    """

    def __init__(self, config: TrainConfig, validate: Validator | None, best: Path) -> None:
        self.config = config
        self.settings = config.validation
        self.validate = validate
        self.best = best
        self.watched = Watched()
        if self.settings.every is not None and validate is None:
            raise ValueError(
                "validation.every is set: pass train(..., validate=qmargin.protocols.training_validator(config)), as "
                "qmargin train does; the loop itself knows no figures"
            )
        watch = self.settings.watch
        self.watch = None if watch is None or validate is None else watched_figure(watch, validate.names)

    def state_dict(self) -> State:
        """What was found so far, for a checkpoint."""
        return asdict(self.watched)

    def load_state_dict(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.watched = Watched(**state)

    def after(self, state: TrainingState, steps: int, log: TrainingLog | SilentLog) -> bool:
        """Validate if it is due after the state's step; True where training should end now."""
        every = self.settings.every
        if every is None or (state.step % every and state.step != steps):
            return False
        assert self.validate is not None, "__init__ refuses that"
        training = state.backbone.training
        figures = self.validate(state.evaluated)
        state.backbone.train(training)
        log.add_validation(state.step, figures)
        if self.watch is not None and self._is_better(self.watch, figures[self.watch], state.step):
            self._keep(state)
        return self.watched.done

    def _is_better(self, name: str, figure: float, step: int) -> bool:
        sign = -1.0 if name.rsplit(".", 1)[-1] in LOWER_IS_BETTER else 1.0
        seen = self.watched
        if seen.best is None or sign * figure > sign * seen.best:
            self.watched = Watched(best=figure, step=step)
            return True
        waited = seen.waited + 1
        patience = self.settings.patience
        self.watched = Watched(seen.best, seen.step, waited, done=patience is not None and waited >= patience)
        return False

    def _keep(self, state: TrainingState) -> None:
        weights = gathered(state.evaluated.state_dict())
        if own_rank()[0] > 0:  # every rank has computed the same figures; one writes
            return
        config = self.config
        source = f"qmargin recipe {config.recipe}, loss {config.loss.name}, best {self.watch}"
        write_model(self.best, model_config(config, source, state.step), weights)


def watched_figure(watch: str, names: Sequence[str]) -> str:
    """The figure of these names that `validation.watch` means: a whole name, or that of a TAR without its FAR.

    Raises:
        ValueError: it is none of them.

    Example:
        >>> watched_figure("identities.tar", ("identities.eer", "identities.tar@1e-03"))
        'identities.tar@1e-03'
    """
    found = [name for name in names if watch in (name, name.split("@")[0])]
    if len(found) != 1:
        raise ValueError(f"validation.watch must be one of {', '.join(names)}, got {watch!r}")
    return found[0]
