"""Recipes: functions that return a whole config. A comparison of losses replaces the `loss` field and nothing else.

Those of public face sets are rows of a table (`PublishedRecipe`), each under its own name, as every other:

    >>> from qmargin import recipes
    >>> recipes.faces_ms1mv3_r50.name
    'faces-ms1mv3-r50'
"""

from qmargin.recipes.faces import faces as faces
from qmargin.recipes.faces import faces_orl as faces_orl
from qmargin.recipes.faces import faces_small as faces_small
from qmargin.recipes.million import million as million
from qmargin.recipes.published import FACE_SETS as FACE_SETS
from qmargin.recipes.published import NETWORKS as NETWORKS
from qmargin.recipes.published import PUBLISHED as _PUBLISHED
from qmargin.recipes.published import PublishedRecipe as PublishedRecipe
from qmargin.recipes.registry import RECIPES as RECIPES
from qmargin.recipes.registry import Recipe as Recipe
from qmargin.recipes.registry import find_recipe as find_recipe
from qmargin.recipes.speakers import speakers_small as speakers_small
from qmargin.recipes.speakers import voxceleb_ecapa1024 as voxceleb_ecapa1024
from qmargin.recipes.speakers import voxceleb_ecapa1024_large_margin as voxceleb_ecapa1024_large_margin
from qmargin.recipes.speakers import voxceleb_resnet34 as voxceleb_resnet34
from qmargin.recipes.speakers import voxceleb_resnet34_large_margin as voxceleb_resnet34_large_margin

__all__ = [
    "FACE_SETS",
    "NETWORKS",
    "RECIPES",
    "PublishedRecipe",
    "Recipe",
    "faces",
    "faces_orl",
    "faces_small",
    "find_recipe",
    "million",
    "speakers_small",
    "voxceleb_ecapa1024",
    "voxceleb_ecapa1024_large_margin",
    "voxceleb_resnet34",
    "voxceleb_resnet34_large_margin",
]

_ROWS = {recipe.attribute: recipe for recipe in _PUBLISHED}


def __getattr__(name: str) -> PublishedRecipe:
    """A row of the table by its name."""
    if name in _ROWS:
        return _ROWS[name]
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; find_recipe takes the name of any recipe in RECIPES"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROWS})
