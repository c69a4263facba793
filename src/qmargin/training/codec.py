"""Configs as JSON and back, exactly: every field by name, the kind of a union written down, unknown keys refused."""

import json
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.strategies import configure_tagged_union, include_subclasses
from cattrs.v import format_exception

from qmargin.backbones import CamPlusPlusConfig, EcapaConfig, IResNetConfig, MobileFaceNetConfig, SpeakerResNetConfig
from qmargin.data.speech import Noise
from qmargin.losses import Margin
from qmargin.training.config import DataConfig, TrainConfig
from qmargin.training.model_config import AnyModelConfig, ModelConfig
from qmargin.training.speech_data import SpeechDataConfig

T = TypeVar("T")
KIND = "kind"  # key that names the class where a field can hold several


@cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(_exact(value, str)))
    converter.register_structure_hook(float, lambda value, _: float(_exact(value, float, int)))
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exact)
    for owner, name in ((TrainConfig, "backbone"), (DataConfig, "source"), (SpeechDataConfig, "source")):
        union = next(field.type for field in fields(owner) if field.name == name)
        configure_tagged_union(union, converter, tag_name=KIND)
    images, speech = IResNetConfig | MobileFaceNetConfig, EcapaConfig | SpeakerResNetConfig | CamPlusPlusConfig
    for union in (images, speech, Noise):  # the first two are those of model files
        configure_tagged_union(union, converter, tag_name=KIND)
    noise: Any = Noise  # cattrs' types know classes only
    converter.register_structure_hook(Noise | None, lambda value, _: value and converter.structure(value, noise))
    converter.register_unstructure_hook(Noise | None, lambda value: value and converter.unstructure(value, noise))
    data = next(field.type for field in fields(TrainConfig) if field.name == "data")
    configure_tagged_union(data, converter, tag_name=KIND, default=DataConfig)  # configs of before speech say no kind
    configure_tagged_union(AnyModelConfig, converter, tag_name=KIND, default=ModelConfig)  # nor do their model files
    include_subclasses(Margin, converter, union_strategy=_tagged)
    return converter


def _tagged(union: Any, converter: Any) -> None:  # noqa: ANN401 - cattrs' own types of a union and its converter
    configure_tagged_union(union, converter, tag_name=KIND)


def _exact(value: Any, *kinds: type) -> Any:  # noqa: ANN401 - a leaf of a JSON tree
    """`value` if it is one of `kinds`: 3.7 is no count and "false" is no truth value."""
    if type(value) not in kinds:
        raise ValueError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
    return value


def to_json(config: object) -> str:
    """A config (a dataclass) as indented JSON, one field a line."""
    return json.dumps(_converter().unstructure(config), indent=2)


def from_json(text: str, origin: str) -> TrainConfig:
    """The config of a run that `to_json` wrote; errors are those of `structured`."""
    return structured(text, TrainConfig, origin)


def structured(text: str, kind: type[T], origin: str) -> T:
    """The config of that kind that `to_json` wrote; `origin` names the file in errors.

    Raises:
        ValueError: not JSON, an unknown or missing key, a value of the wrong type or outside its range.
    """
    config: T = _structured(text, kind, origin)
    return config


def _structured(text: str, kind: Any, origin: str) -> Any:  # noqa: ANN401 - a class, or a union of classes
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise ValueError(f"{origin} is not a valid config: it holds {type(tree).__name__}, not an object of fields")
        return _converter().structure(tree, kind)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{origin} is not JSON ({error}); it should be the config.json of a run or of a model file"
        ) from error
    except BaseValidationError as error:
        raise ValueError(
            f"{origin} is not a valid config: {'; '.join(transform_error(error, format_exception=_reason))}"
        ) from error


def _reason(error: BaseException, kind: type | None) -> str:
    """Our own refusals say what is wrong; cattrs words the others."""
    return str(error) if type(error) is ValueError and str(error) else format_exception(error, kind)


def model_to_json(config: AnyModelConfig) -> str:
    """What a model file says as JSON."""
    return json.dumps(_converter().unstructure(config, unstructure_as=AnyModelConfig), indent=2)


def model_from_json(text: str, origin: str) -> AnyModelConfig:
    """What `model_to_json` wrote; errors are those of `structured`."""
    said: AnyModelConfig = _structured(text, AnyModelConfig, origin)
    return said


# Settings that change how fast or how closely watched a run is, not what comes out of it.
HARMLESS = frozenset(
    {
        "data.workers",
        "data.processes",
        "data.keep_decoded",
        "data.source.verify",
        "log_every",
        "checkpoint_every",
        "checkpoint_in_background",
    }
)


def leaves(config: object, prefix: str = "") -> dict[str, object]:
    """Every leaf of a config by its dotted name; a nested config is named with its kind, then come its fields."""
    if not is_dataclass(config):
        return {prefix: config}
    found: dict[str, object] = {prefix: type(config).__name__} if prefix else {}
    for field in fields(config):
        found |= leaves(getattr(config, field.name), f"{prefix}.{field.name}" if prefix else field.name)
    return found


def places(config: TrainConfig) -> frozenset[str]:
    """Names of the leaves that are a path and may be another one when a run goes on.

    Of `data.source` the digest of its samples says whether it is the same; the files of `data.feature_cache` name what
    they are of, and are computed where they are missing; `init_from` is not read again once there is a checkpoint. That
    the sets of noise are the same ones, elsewhere, is taken on trust.
    """
    return frozenset(name for name, value in leaves(config).items() if isinstance(value, Path))


def flatten(config: object) -> dict[str, str]:
    """Every leaf of a config as text: `{"optimizer.learning_rate": "0.1", ...}`."""
    return {name: shown(value) for name, value in leaves(config).items()}


def shown(value: object) -> str:
    """A leaf as text: short numbers, paths as they are, the parts of a tuple in parentheses."""
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing(first: TrainConfig, second: TrainConfig, harmless: frozenset[str] = HARMLESS) -> list[str]:
    """Names of the leaves in which two configs differ, in order, harmless ones aside."""
    a, b = leaves(first), leaves(second)
    return [name for name in {**a, **b} if a.get(name) != b.get(name) and name not in harmless]
