"""The recipes and studies that come along: list them, find one by name, read its title."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe.faults import Fault, closest, recipe_error
from fedclip_plugin.recipe.yaml_reader import read_yaml

_STUDIES = "studies"


def recipe_folder() -> Path:
    """Return the folder of the recipes: the installed `fedclip_recipes`, or the checkout's ``recipes/``."""
    try:
        return Path(str(resources.files("fedclip_recipes")))
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "recipes"


def recipe_files() -> list[Path]:
    """List the recipes that come along, sorted by folder and name."""
    return sorted(path for path in recipe_folder().glob("*/*.yaml") if path.parent.name != _STUDIES)


def study_files() -> list[Path]:
    """List the studies that come along, sorted by name."""
    return sorted((recipe_folder() / _STUDIES).glob("*.yaml"))


def recipe_name(path: Path) -> str:
    """Name a recipe's file the way `find_recipe` takes it: ``<dataset>/<backbone>_<method>``."""
    return f"{path.parent.name}/{path.stem}"


def find_recipe(name_or_path: str | Path) -> Path:
    """Find a recipe by path, or by the name of one that comes along.

    Parameters
    ----------
    name_or_path
        A file, or ``miniature/clip_tiny_fedclip``, with or without ``recipes/`` before and ``.yaml`` behind.

    Returns
    -------
    Path
        Something that exists; a file of the user's wins over a name.

    Raises
    ------
    RecipeError
        If there is neither, with the closest name.
    """
    return _find(name_or_path, "recipe", recipe_files())


def find_study(name_or_path: str | Path) -> Path:
    """Find a study by path, or by a name such as ``studies/miniature``; otherwise as `find_recipe`."""
    return _find(name_or_path, "study", study_files())


def find_either(name_or_path: str | Path) -> Path:
    """Find a recipe or a study; otherwise as `find_recipe`."""
    return _find(name_or_path, "recipe or study", [*recipe_files(), *study_files()])


def is_study(path: Path) -> bool:
    """Tell whether a file holds a study rather than a recipe, as far as it can be read."""
    try:
        content, _ = read_yaml(path)
    except RecipeError:
        return False
    return holds_study(content)


def holds_study(content: Mapping[Any, Any]) -> bool:
    """Tell whether what a file holds is meant to be a study."""
    return "study" in content or "cases" in content


def _find(name_or_path: str | Path, kind: str, files: Sequence[Path]) -> Path:
    known = {recipe_name(file): file for file in (*recipe_files(), *study_files())}
    path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 (Path's own raises for a user who is not there)
    name = str(name_or_path).removeprefix("./").removeprefix("recipes/").removesuffix(".yaml")
    if name in known and not os.path.isfile(path):  # noqa: PTH113 (Path's own raises for a name that is too long)
        return known[name]
    if name and os.path.lexists(path):  # without a name, path is the folder in which the command works
        return path
    names = [recipe_name(file) for file in files]
    rule = f"no such file, and no {kind} of that name; there are {', '.join(names) or 'none'}"
    raise recipe_error(name_or_path, [Fault(kind, rule, str(name_or_path), closest(name, names))])


def recipe_title(path: Path) -> str:
    """Read what a recipe is from the first line of its header, without ``#``; empty for one without a header."""
    with path.open(encoding="utf-8") as lines:
        first = lines.readline().strip()
    return first.lstrip("# ") if first.startswith("#") else ""


def default_run_dir(path: Path) -> Path:
    """Name the run folder of a recipe's file that sets no ``run_dir``.

    It is ``runs/<stem>``, or ``runs/<dataset>_<stem>`` for recipes that come along, which share stems.
    """
    shared = path.resolve().is_relative_to(recipe_folder().resolve())
    return Path("runs") / (f"{path.parent.name}_{path.stem}" if shared else path.stem)
