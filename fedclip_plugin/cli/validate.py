"""``fedclip validate``: check recipes and studies."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.terminal import message, printable
from fedclip_plugin.cli.options import add_overrides
from fedclip_plugin.errors import DataError, RecipeError
from fedclip_plugin.recipe import Recipe, find_either, is_study, load_recipe
from fedclip_plugin.recipe.privacy_words import privacy_words, secure_sums_words


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    add_overrides(parser, "override a key")


def act(options: argparse.Namespace) -> int:
    """Check recipes and studies and print every fault of every one; return 0 when all are valid, else 2."""
    code = 0
    for name in options.recipes:
        try:
            path = find_either(name)
            told, recipe = (_study if is_study(path) else _recipe)(path, options.overrides)
            words = [own for own in (privacy_words(recipe), secure_sums_words(recipe)) if own]
            notes = [*(f"  {own}" for own in words), *_silo_files(recipe), *_images(recipe)]
            print("\n".join([f"{printable(str(path))}: {told}", *notes]))
        except (RecipeError, DataError) as error:
            print(message(str(error)), file=sys.stderr)
            code = error.exit_code
    return code


def _recipe(path: Path, overrides: Sequence[str]) -> tuple[str, Recipe]:
    recipe = load_recipe(path, overrides)
    silos = recipe.train_args.client_num_in_total
    if recipe.simulated:
        sampled = recipe.train_args.client_num_per_round
        return f"valid; {silos:,} simulated clients, {sampled:,} a round, {recipe.train_args.comm_round} rounds", recipe
    return f"valid; {silos} silos, {silos + 1} ranks, {recipe.train_args.comm_round} rounds", recipe


def _study(path: Path, overrides: Sequence[str]) -> tuple[str, Recipe]:
    from fedclip_plugin.study.definition import load_study

    study = load_study(path, overrides)
    recipe = study.cell_recipe(next(iter(study.cases)), study.held_out()[0], study.seeds[0], 0)
    return f"valid study; {study.size()}, {study.cells()} cells", recipe


def _silo_files(recipe: Recipe) -> list[str]:
    """Check the files of ``data_silo_config``, and the images that they name, as far as they are on this machine.

    Return a line for each, of what was found or is not here.
    """
    if not recipe.data_args.data_silo_config:
        return []
    from fedclip_plugin.data import look_at_own_file  # numpy and Pillow come with it

    notes, faults = [], []
    for index in range(len(recipe.data_args.data_silo_config)):
        try:
            notes.append(f"  {printable(look_at_own_file(recipe, index))}")
        except (RecipeError, DataError) as error:
            faults.append(str(error))
    if faults:
        raise RecipeError("\n".join(dict.fromkeys(faults)))
    return list(dict.fromkeys(notes))


def _images(recipe: Recipe) -> list[str]:
    """Check lists of images, and folders that every rank lists, if they are here; return a line for each that is not.

    A DataError says what is wrong with them, such as images that cannot be shared out as the recipe asks.
    """
    settings = recipe.fedclip_args
    place = settings.data_list
    if settings.data_layout != "list":
        place = settings.data_root if recipe.simulated or recipe.shares_out() else None
    if place is None or recipe.data_args.data_silo_config:
        return []
    from fedclip_plugin.data import require_images_here
    from fedclip_plugin.data.lists.list_file import in_silo

    names = [*(recipe.silo_names() or ()), *([settings.target_domain] if settings.target_domain else [])]
    paths = dict.fromkeys(in_silo(place, name) for name in names) or [place]
    away = [path for path in paths if not os.path.lexists(path)]
    if not away:
        require_images_here(recipe)
    return [f"  {printable(str(path))} is not on this machine: not checked" for path in away]
