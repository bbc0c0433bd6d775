"""Recipes: YAML in, a checked `Recipe` out. Nothing here imports torch or fedml."""

from fedclip_plugin.recipe.library import (
    default_run_dir,
    find_either,
    find_recipe,
    find_study,
    is_study,
    recipe_files,
    recipe_name,
    recipe_title,
    study_files,
)
from fedclip_plugin.recipe.load import load_recipe
from fedclip_plugin.recipe.recipe import Recipe
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

__all__ = [
    "FedClipArgs",
    "Recipe",
    "default_run_dir",
    "find_either",
    "find_recipe",
    "find_study",
    "is_study",
    "load_recipe",
    "recipe_files",
    "recipe_name",
    "recipe_title",
    "study_files",
]
