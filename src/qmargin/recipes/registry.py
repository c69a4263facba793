"""Every recipe by name, each with the losses it knows good settings for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from qmargin.losses import ScheduledLoss
from qmargin.recipes.faces import faces, faces_orl, faces_small
from qmargin.recipes.losses import LARGE, MILLION, ORL, SMALL, SPEAKERS, SPEAKERS_LARGE_MARGIN, VOICES
from qmargin.recipes.million import million
from qmargin.recipes.published import PUBLISHED
from qmargin.recipes.speakers import (
    speakers_small,
    voxceleb_ecapa1024,
    voxceleb_ecapa1024_large_margin,
    voxceleb_resnet34,
    voxceleb_resnet34_large_margin,
)
from qmargin.training import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe by name: `config(loss)` with one of `losses`; the first loss is the default."""

    name: str
    config: Callable[[ScheduledLoss], TrainConfig]
    losses: Mapping[str, ScheduledLoss]
    about: str = ""  # one line; that of the function's docstring unless given

    @property
    def summary(self) -> str:
        """One line on the recipe."""
        return self.about or (self.config.__doc__ or "").strip().splitlines()[0]

    def with_loss(self, name: str | None = None) -> TrainConfig:
        """The config with the named loss, or the default one."""
        return self.config(self.losses[nearest(next(iter(self.losses)) if name is None else name, self.losses, "loss")])


def nearest(name: str, known: Mapping[str, object], kind: str) -> str:
    """`name` if it is known, else a ValueError with the nearest name and all others."""
    if name in known:
        return name
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(known)}")


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; a ValueError with the nearest one otherwise."""
    return RECIPES[nearest(name, RECIPES, "recipe")]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="faces-orl", config=faces_orl, losses=ORL),
        Recipe(name="faces-small", config=faces_small, losses=SMALL),
        Recipe(name="faces", config=faces, losses=LARGE),
        Recipe(name="speakers-small", config=speakers_small, losses=VOICES),
        Recipe(name="voxceleb-resnet34", config=voxceleb_resnet34, losses=SPEAKERS),
        Recipe(name="voxceleb-ecapa1024", config=voxceleb_ecapa1024, losses=SPEAKERS),
        Recipe(
            name="voxceleb-resnet34-large-margin", config=voxceleb_resnet34_large_margin, losses=SPEAKERS_LARGE_MARGIN
        ),
        Recipe(
            name="voxceleb-ecapa1024-large-margin",
            config=voxceleb_ecapa1024_large_margin,
            losses=SPEAKERS_LARGE_MARGIN,
        ),
        Recipe(name="million", config=million, losses=MILLION),
        *(Recipe(name=one.name, config=one, losses=one.losses, about=one.summary) for one in PUBLISHED),
    )
}
