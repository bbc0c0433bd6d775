"""Recipes: YAML in, a checked `Recipe` out. Nothing here imports torch or fedml.

Names are handed on lazily: who only looks for a recipe's file waits for no schema.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {"FedClipArgs": "schema.fedclip", "Recipe": "recipe", "load_recipe": "load"}
"""Where a name comes from, if not from ``library``."""


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'library')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
