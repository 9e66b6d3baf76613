"""The recipes by name."""

from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.alexnet_2012_paper import ALEXNET_2012_PAPER
from components.train.recipes.smoke import SMOKE

RECIPES = {recipe.name: recipe for recipe in (ALEXNET_2012, ALEXNET_2012_PAPER, SMOKE)}
