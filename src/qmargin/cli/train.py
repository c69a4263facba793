"""`qmargin train RECIPE --out DIR [--loss NAME] [--resume] [--field value ...]`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qmargin.cli._recipe_list import list_recipes
from qmargin.cli._splits import evaluation_of
from qmargin.cli._validator import validator_of
from qmargin.recipes import find_recipe
from qmargin.recipes.registry import Recipe, nearest
from qmargin.training import RunFolder, TrainConfig
from qmargin.training import train as train_run
from qmargin.training.codec import flatten
from qmargin.training.log import peak_memory_mib
from qmargin.training.ranks import own_rank

T = TypeVar("T")
NONE = type(None)
# Fields that may hold several kinds, as config.json names them, and what the kind says; --FIELD.kind NAME chooses it.
KINDS = {"data.source": "what the data is read from", "data.augmentation.noise": "which noise is added"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train one run. Every field of the recipe's config can be replaced: --field value."""

    out: Path
    """Folder of the run: config, checkpoint, log."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the run in --out from its newest checkpoint; where there is none yet, start it, and say so: what is
    started again by a scheduler may always have --resume."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """The recipe's config."""


def run(words: Sequence[str]) -> None:
    """Train a recipe into a folder; Ctrl-C leaves a run that --resume continues to the same weights."""
    if not words or words[0] in ("-h", "--help"):
        list_recipes()
        return
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("recipe")
    chooser.add_argument("--loss")
    for field in KINDS:
        chooser.add_argument(f"--{field}.kind", dest=field)
    chosen, rest = chooser.parse_known_args(list(words))
    recipe = find_recipe(chosen.recipe)
    default = _default(recipe, chosen, rest)
    arguments = tyro.cli(
        Arguments,
        default=Arguments(out=tyro.MISSING, config=default),
        args=rest,
        prog=f"qmargin train {recipe.name} [--loss {'|'.join(recipe.losses)}]",
        description=f"{recipe.summary}\n\nShown are the settings with --loss {default.loss.name}."
        + _kinds_help(default),
        config=(tyro.conf.AvoidSubcommands,),
    )
    config = _with_absolute_paths(arguments.config)
    if own_rank()[0] == 0:
        show_settings(config)
    if arguments.out.resolve() == Path.cwd():
        raise ValueError("--out must be a folder of its own, not the current one; for example --out runs/first")
    validate = validator_of(config)
    if arguments.resume and own_rank()[0] == 0:
        _say_where_it_starts(RunFolder(arguments.out))
    folder = train_run(config, arguments.out, resume=arguments.resume, validate=validate)
    if own_rank()[0] > 0:
        return
    done = f"trained: {folder.path}   peak memory: {peak_memory_mib():,.0f} MiB   next: {evaluation_of(folder)}"
    Console().print(done, soft_wrap=True, markup=False)


def _default(recipe: Recipe, chosen: argparse.Namespace, rest: Sequence[str]) -> TrainConfig:
    """What the flags of the fields change: the recipe's config with the kinds that were chosen, or that of a run."""
    default = recipe.with_loss(chosen.loss)
    stored = _resumed(rest)
    if stored is not None:
        if stored.recipe != recipe.name or chosen.loss not in (None, stored.loss.name):
            raise ValueError(
                f"--out holds a run of recipe {stored.recipe} with loss {stored.loss.name}, asked was {recipe.name} "
                f"with {default.loss.name}: resume it as it is, or train into another --out"
            )
        default = stored
    for field in KINDS:
        kind = getattr(chosen, field)
        if kind is not None:
            default = _of_kind(default, field, kind, resumed=stored is not None)
    return default


def _resumed(words: Sequence[str]) -> TrainConfig | None:
    """With --resume, the config of the run in --out: the flags it was started with need not be said again."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--out", type=Path)
    peek.add_argument("--resume", action="store_true")
    known, _ = peek.parse_known_args(list(words))
    folder = RunFolder(known.out) if known.resume and known.out is not None else None
    return folder.read_config() if folder is not None and folder.config.exists() else None


def _say_where_it_starts(folder: RunFolder) -> None:
    """With --resume, and nothing to go on from, which a mistyped --out looks like."""
    if not folder.has_checkpoint():
        what = "checkpoint" if folder.config.exists() else "run"
        console = Console(soft_wrap=True)
        console.print(f"no {what} in {folder.path} yet: starting from step 0", markup=False, highlight=False)


def _kinds(config: TrainConfig, field: str) -> dict[str, Any]:
    """The kinds that a field may hold, by the name that config.json gives them; none where there is no such field."""
    *path, name = field.split(".")
    hint = get_type_hints(type(_at(config, path))).get(name)
    return {_name(kind): kind for kind in get_args(hint)}


def _kinds_help(config: TrainConfig) -> str:
    """What --help says of the fields that may hold several kinds."""
    known = {field: _kinds(config, field) for field in KINDS}
    return "".join(
        f" --{field}.kind {'|'.join(kinds)} says {KINDS[field]}, here {_name(type(_at(config, field.split('.'))))}; "
        f"--{field}... are the fields of that kind."
        for field, kinds in known.items()
        if kinds
    )


def _of_kind(config: TrainConfig, field: str, name: str, *, resumed: bool) -> TrainConfig:
    """The config with a field of that kind; fields of the kind without a default have to be said."""
    path, known = field.split("."), _kinds(config, field)
    if not known:
        raise ValueError(f"the recipe {config.recipe} has no {field}: leave --{field}.kind out")
    kind, now = known[nearest(name, known, f"--{field}.kind")], _at(config, path)
    if isinstance(now, kind):
        return config
    if resumed:
        raise ValueError(
            f"--out holds a run with --{field}.kind {_name(type(now))}, asked was {name}: resume it as it is, or train "
            "into another --out"
        )
    return _with(config, path, None if kind is NONE else kind(**_to_be_said(kind)))


def _to_be_said(kind: type[Any]) -> dict[str, Any]:
    return {field.name: tyro.MISSING for field in fields(kind) if field.default is MISSING}


def _name(kind: type) -> str:
    return "None" if kind is NONE else kind.__name__


def _at(config: object, path: Sequence[str]) -> Any:  # noqa: ANN401 - a part of a config, of any type
    return reduce(getattr, path, config)


def _with(config: T, path: Sequence[str], value: object) -> T:
    """The config with another value at a path."""
    name, *rest = path
    part = _with(getattr(config, name), rest, value) if rest else value
    return replace(config, **{name: part})  # type: ignore[type-var] # a dataclass


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Paths of the data from the root on, so that the run can be evaluated from any folder."""
    return replace(
        config,
        data=_absolute(config.data),
        validation=_absolute(config.validation),
        init_from=_absolute(config.init_from),
    )


def _absolute(part: T) -> T:
    """A config in which every path, at any depth, is from the root on."""
    if isinstance(part, Path):
        return Path.cwd() / part
    if isinstance(part, tuple):
        return tuple(map(_absolute, part))  # type: ignore[return-value] # of the same kinds
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changed = {field.name: _absolute(getattr(part, field.name)) for field in fields(part)}
    return replace(part, **changed)


def show_settings(config: TrainConfig) -> None:
    """Print the effective config, every leaf of it."""
    table = Table(
        title=f"recipe {config.recipe}, loss {config.loss.name}", box=None, show_header=False, title_justify="left"
    )
    for name, value in flatten(config).items():
        table.add_row(name, escape(value))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)
