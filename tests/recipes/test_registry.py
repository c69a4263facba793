from dataclasses import fields

import pytest

from qmargin import recipes
from qmargin.losses import AngularMargin, ReferenceMargin
from qmargin.recipes import RECIPES, Recipe, find_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_comparing_losses_changes_exactly_one_field(recipe: Recipe) -> None:
    configs = {name: recipe.with_loss(name) for name in recipe.losses}
    first = next(iter(configs.values()))
    for name, config in configs.items():
        changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(first, f.name)]
        assert changed in ([], ["loss"])
        assert config.loss.name == name
        assert config.recipe == recipe.name


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_recipe_offers_the_three_losses_of_the_comparison(recipe: Recipe) -> None:
    assert recipe.losses["arcface"].final.alpha == recipe.losses["cosface"].final.alpha == 1.0
    assert isinstance(recipe.losses["arcface"].final.margin, AngularMargin)
    assert recipe.losses["qmargin"].final.alpha > 1.0
    assert isinstance(recipe.losses["qmargin"].final.margin, ReferenceMargin)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_without_a_loss_has_the_default_one(name: str) -> None:
    function = getattr(recipes, name.replace("-", "_"))
    assert function() == find_recipe(name).with_loss()


def test_an_unknown_recipe_or_loss_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'faces-orll'; did you mean 'faces-orl'"):
        find_recipe("faces-orll")
    with pytest.raises(ValueError, match=r"unknown loss 'arcfase'; did you mean 'arcface'"):
        find_recipe("faces-orl").with_loss("arcfase")
