"""Recipes: YAML in, a checked `Recipe` out. Nothing here imports torch or fedml."""

from .fedclip_args import FedClipArgs
from .library import default_run_dir, find_recipe, recipe_files, recipe_name, recipe_title
from .load import load_recipe
from .methods import METHODS, MethodSpec
from .recipe import Recipe

__all__ = [
    "METHODS",
    "FedClipArgs",
    "MethodSpec",
    "Recipe",
    "default_run_dir",
    "find_recipe",
    "load_recipe",
    "recipe_files",
    "recipe_name",
    "recipe_title",
]
