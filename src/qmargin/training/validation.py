"""Validation on the way: when, what is better, the best weights, and when waiting is over."""

from collections.abc import Callable
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

Validate = Callable[[nn.Module], dict[str, float]]  # a backbone -> figures by name, the same names each time

LOWER_IS_BETTER = ("eer",)  # last part of a figure's name; of all others higher is better


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
        ValueError: `validation.every` is set and `validate` is missing.
    """

    def __init__(self, config: TrainConfig, validate: Validate | None, best: Path) -> None:
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

    def state_dict(self) -> State:
        """What was found so far, for a checkpoint."""
        return asdict(self.watched)

    def load_state_dict(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.watched = Watched(**state)

    def after(self, state: TrainingState, steps: int, log: TrainingLog | SilentLog) -> bool:
        """Validate if it is due after the state's step; True where training should end now.

        Raises:
            ValueError: the figure to watch is none of those that are computed.
        """
        every = self.settings.every
        if every is None or (state.step % every and state.step != steps):
            return False
        assert self.validate is not None, "__init__ refuses that"
        training = state.backbone.training
        figures = self.validate(state.evaluated)
        state.backbone.train(training)
        log.add_validation(state.step, figures)
        if self.settings.watch is not None and self._is_better(figures, state.step):
            self._keep(state)
        return self.watched.done

    def _is_better(self, figures: dict[str, float], step: int) -> bool:
        watch = self.settings.watch
        assert watch is not None, "the caller asks"
        if watch not in figures:
            raise ValueError(f"validation.watch must be one of {', '.join(figures)}, got {watch!r}")
        sign = -1.0 if watch.rsplit(".", 1)[-1] in LOWER_IS_BETTER else 1.0
        seen = self.watched
        if seen.best is None or sign * figures[watch] > sign * seen.best:
            self.watched = Watched(best=figures[watch], step=step)
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
        source = f"qmargin recipe {config.recipe}, loss {config.loss.name}, best {self.settings.watch}"
        write_model(self.best, model_config(config, source, state.step), weights)
