"""Recipes: YAML in, a checked `Recipe` out. Nothing here imports torch or fedml."""

from .fedclip_args import FedClipArgs
from .library import (
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
from .load import load_recipe
from .load_study import load_study
from .methods import METHODS, MethodSpec
from .recipe import Recipe
from .study import Case, Study
from .study_changes import study_changes

__all__ = [
    "METHODS",
    "Case",
    "FedClipArgs",
    "MethodSpec",
    "Recipe",
    "Study",
    "default_run_dir",
    "find_either",
    "find_recipe",
    "find_study",
    "is_study",
    "load_recipe",
    "load_study",
    "recipe_files",
    "recipe_name",
    "recipe_title",
    "study_changes",
    "study_files",
]
