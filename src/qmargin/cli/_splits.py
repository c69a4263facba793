"""Which held-out people a run has, and by which command it can be judged where it has none."""

import shlex

from qmargin.training import RunFolder, SpeechDataConfig, TrainConfig
from qmargin.training.people import people_of


def check_split(folder: RunFolder, split: str) -> None:
    """Refuse a split that holds nobody, with the ways to judge this run all the same.

    A run without its manifest passes: the samples are asked for the split later on.
    """
    if not folder.manifest.is_file():
        return
    people = {name: len(counts) for name, counts in people_of(folder).items()}
    if split in people:
        return
    config = folder.read_config()
    others = [f"--split {name} (its {people[name]:,})" for name in ("test", "validation") if name in people]
    has = ", ".join(f"{name} {count:,}" for name, count in people.items())
    raise ValueError(
        f"nobody of {folder.path} is in the split {split!r}; its people are {has}. Judge it with "
        f"{' or '.join([*others, _on_lists(config)])}, or train with people to judge on ({_places(config, split)})"
    )


def evaluation_of(folder: RunFolder) -> str:
    """The command that judges a run on held-out people, or on a list where it holds out nobody."""
    people, run = people_of(folder), shlex.quote(str(folder.path))
    if "test" in people:
        return f"qmargin evaluate {run}"
    if "validation" in people:
        return f"qmargin evaluate {run} --split validation"
    if _of_speech(folder.read_config()):
        return f"qmargin evaluate {run} --trials LIST --audio DIR"
    return f"qmargin pairs {run} LIST"


def _on_lists(config: TrainConfig) -> str:
    return "--trials LIST --audio DIR" if _of_speech(config) else "qmargin pairs RUN LIST"


def _places(config: TrainConfig, split: str) -> str:
    """Options that give a run people of a split."""
    if split == "validation":
        return "--data.validation-identities"
    source = config.data.source
    return "--data.source.test" if hasattr(source, "test") else f"a test split in the data of {type(source).__name__}"


def _of_speech(config: TrainConfig) -> bool:
    return isinstance(config.data, SpeechDataConfig)
