"""Recipes: functions that return a whole config. A comparison of losses replaces the `loss` field and nothing else."""

from qmargin.recipes.faces import faces as faces
from qmargin.recipes.faces import faces_orl as faces_orl
from qmargin.recipes.faces import faces_small as faces_small
from qmargin.recipes.million import million as million
from qmargin.recipes.published import FACE_SETS as FACE_SETS
from qmargin.recipes.published import NETWORKS as NETWORKS
from qmargin.recipes.published import PublishedRecipe as PublishedRecipe
from qmargin.recipes.registry import RECIPES as RECIPES
from qmargin.recipes.registry import Recipe as Recipe
from qmargin.recipes.registry import find_recipe as find_recipe
from qmargin.recipes.speakers import speakers_small as speakers_small
from qmargin.recipes.speakers import voxceleb_ecapa1024 as voxceleb_ecapa1024
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
    "voxceleb_resnet34",
    "voxceleb_resnet34_large_margin",
]
