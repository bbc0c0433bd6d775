"""``fedclip ls`` and ``fedclip validate``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import (
    find_recipe,
    find_study,
    is_study,
    load_recipe,
    load_study,
    recipe_files,
    recipe_name,
    recipe_title,
    study_files,
)
from fedclip_plugin.text import message, printable


def list_recipes() -> int:
    """Print the recipes and studies that come with the package, a line each; return the exit code."""
    rows = [(recipe_name(path), recipe_title(path)) for path in (*recipe_files(), *study_files())]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}")
    return 0


def validate(names: Sequence[str]) -> int:
    """Check recipes and studies and print every fault of every one; return 0 when all are valid, else 2.

    Parameters
    ----------
    names
        Paths, or names that ``fedclip ls`` shows.
    """
    code = 0
    for name in names:
        try:
            print(printable(_told_study(name) if is_study(name) else _told_recipe(name)))
        except RecipeError as error:
            print(message(str(error)), file=sys.stderr)
            code = error.exit_code
    return code


def _told_recipe(name: str) -> str:
    path = find_recipe(name)
    train = load_recipe(path).train_args
    silos = train.client_num_in_total
    return f"{path}: valid; {silos} silos, {silos + 1} ranks, {train.comm_round} rounds"


def _told_study(name: str) -> str:
    path = find_study(name)
    study = load_study(path)
    size = f"{len(study.cases)} cases, {len(study.held_out())} targets, {len(study.seeds)} seeds"
    return f"{path}: valid study; {size}, {study.cells()} cells"
