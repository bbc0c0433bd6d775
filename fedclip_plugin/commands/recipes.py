"""``fedclip ls`` and ``fedclip validate``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import find_recipe, load_recipe, recipe_files, recipe_name, recipe_title


def list_recipes() -> int:
    """Print the recipes that come with the package, a line each; return the exit code."""
    rows = [(recipe_name(path), recipe_title(path)) for path in recipe_files()]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}")
    return 0


def validate(names: Sequence[str]) -> int:
    """Check recipes and print every fault of every one; return 0 when all are valid, else 2.

    Parameters
    ----------
    names
        Paths, or names that ``fedclip ls`` shows.
    """
    code = 0
    for name in names:
        try:
            path = find_recipe(name)
            recipe = load_recipe(path)
        except RecipeError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
            continue
        silos = recipe.train_args.client_num_in_total
        print(f"{path}: valid; {silos} silos, {silos + 1} ranks, {recipe.train_args.comm_round} rounds")
    return code
