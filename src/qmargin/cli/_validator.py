"""What a training validates with, and what to say where a recipe's own lists are not there."""

from qmargin.protocols import training_validator
from qmargin.training import TrainConfig, Validator


def validator_of(config: TrainConfig) -> Validator | None:
    """The validator of a run's settings; None where they want none.

    Raises:
        ValueError: a file of `validation.bins` is not there, and what `training_validator` refuses.
    """
    if config.validation.every is None:
        return None
    missing = [str(path) for path in config.validation.bins if not path.exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the validation.bins of this run are not there: {', '.join(missing)}; give those you "
            "have with --validation.bins A B, or train without validation: --validation.every None --validation.bins"
        )
    return training_validator(config)
