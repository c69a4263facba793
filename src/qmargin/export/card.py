"""The model card of a run, in Markdown: what was trained on what, how, and the figures that its folder holds."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from qmargin.export.interface import interface_of
from qmargin.export.trained import TrainedModel
from qmargin.training import RunFolder, TrainConfig
from qmargin.training.codec import leaves, shown
from qmargin.training.log import read_log
from qmargin.training.model_config import SpeechModelConfig
from qmargin.training.people import people_of

LOGGED = ("step", "epoch", "loss", "accuracy", "target_cosine", "support_size", "zero_loss")  # of the last row
REPORTS = (
    "metrics-test.md",
    "metrics-validation.md",
    "pairs.md",
    "ijb.md",
    "trials/*/metrics.md",
)  # that other commands leave in a run; of trial lists each in a folder of its own


def model_card(run: RunFolder, model: TrainedModel) -> str:
    """The card of a run.

    Args:
        run: folder of the run.
        model: its trained network, from `read_trained`.

    Returns:
        Markdown: the model, its input and output, the training data by counts (no path and no name of a person), the
        whole recipe, the end of the training log, and the tables that qmargin evaluate, pairs and ijb left in the
        folder, which name the run by its folder's name. Figures that are not there are named as missing.
    """
    config = run.read_config()
    sections = {
        "Model": _rows(_model(model)),
        "Training data": _rows(_data(run, config, _words(model))),
        "Training": _rows(_training(run)),
        "Figures": _figures(run),
        "Limits": LIMITS.format(**_words(model)),
        "Recipe": _rows(_recipe(config)),
    }
    title = f"# {config.backbone.__class__.__name__.removesuffix('Config')}, {config.loss.name}"
    parts = [title, *(f"## {name}\n\n{text}" for name, text in sections.items() if text)]
    return "\n\n".join(parts) + "\n"


LIMITS = (
    "The model maps {one} to a vector; two vectors are compared by their cosine. A threshold must be chosen on other "
    "people's {samples} from the place where it will be used (`qmargin threshold`). Figures of one group of people or "
    "one kind of {device} say nothing of another."
)
OF_IMAGES = {"one": "an aligned image", "samples": "images", "identities": "identities", "device": "camera"}
OF_SPEECH = {"one": "a recording", "samples": "recordings", "identities": "speakers", "device": "microphone"}


def _words(model: TrainedModel) -> dict[str, str]:
    """What samples and their sources are called."""
    return OF_SPEECH if isinstance(model.config, SpeechModelConfig) else OF_IMAGES


def _model(model: TrainedModel) -> dict[str, str]:
    interface = interface_of(model.config)
    count = sum(parameter.numel() for parameter in model.network.parameters())
    return {
        "network": f"{type(model.network).__name__}, {count:,} parameters",
        "input": interface.preprocessing,
        "output": f"{model.config.backbone.embedding_dim} numbers; {interface.embedding}",
        "from": f"{model.config.source}, training step {model.config.step:,}",
        "made with": f"qmargin {version('qmargin')}",
    }


def _data(run: RunFolder, config: TrainConfig, words: Mapping[str, str]) -> dict[str, str]:
    if not run.manifest.is_file():
        return {"source": type(config.data.source).__name__, "counts": "not recorded in the run"}
    counts = {
        f"{name} split": f"{people.total():,} {words['samples']} of {len(people):,} {words['identities']}"
        for name, people in people_of(run).items()
    }
    return {"source": type(config.data.source).__name__, **counts}


def _training(run: RunFolder) -> dict[str, str]:
    rows = read_log(run.log) if run.log.is_file() else []
    if not rows:
        return {"log": "nothing was logged"}
    return {f"{name}, last row": f"{rows[-1][name]:g}" for name in LOGGED}


def _recipe(config: TrainConfig) -> dict[str, str]:
    """Every leaf; of paths the last part, because the others are nobody's business."""
    return {name: shown(_private(value)) for name, value in leaves(config).items()}


def _private(value: object) -> object:
    """A path becomes its name."""
    if isinstance(value, tuple):
        return tuple(map(_private, value))
    return value.name if isinstance(value, Path) else value


def _figures(run: RunFolder) -> str:
    found = [path for name in REPORTS for path in sorted(run.path.glob(name)) if path.is_file()]
    if not found:
        return "None was computed: `qmargin evaluate RUN`, then export the card again."
    return _without_folders("\n\n".join(path.read_text(encoding="utf-8").strip() for path in found), run)


def _without_folders(text: str, run: RunFolder) -> str:
    """Tables without the folders above the run's, and of any other path from the root on: the writer's machine."""
    name = "".join(rf"\\?{re.escape(letter)}" for letter in run.path.resolve().name)  # escaped as Markdown, or not
    return re.sub(rf"(?m)(?<=\| )(?:[^|\n]*/(?={name})|/[^|\n]*/)", "", text)


def _rows(cells: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_escaped(value)} |" for name, value in cells.items())])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
