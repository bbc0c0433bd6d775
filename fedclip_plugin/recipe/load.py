"""From a YAML file to a checked recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedclip_edge.arguments import as_path
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.library import holds_study
from fedclip_plugin.recipe.overrides import apply_overrides
from fedclip_plugin.recipe.recipe import Recipe
from fedclip_plugin.recipe.yaml_reader import read_yaml


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Parameters
    ----------
    path
        The YAML file. Relative paths inside it are relative to the current folder, not to the file.
    overrides
        ``section.key=value`` texts; they set existing keys of the schema only, a later one wins.

    Returns
    -------
    Recipe
        Complete, every default filled in.

    Raises
    ------
    RecipeError
        Every fault at once: unreadable or malformed file, duplicate, unknown or misplaced keys, wrong
        values, broken rules between keys, and FedML's keys that are refused, each with the reason.

    Examples
    --------
    >>> from fedclip_plugin import load_recipe
    >>> from fedclip_plugin.recipe import find_recipe
    >>> recipe = load_recipe(find_recipe("miniature/clip_tiny_fedclip"), ["train_args.comm_round=5"])
    >>> recipe.train_args.comm_round, recipe.silo_names()
    (5, ('art_painting', 'cartoon', 'photo'))
    """
    path = as_path(path, "recipe", RecipeError)
    raw, faults = read_yaml(path)
    if holds_study(raw):
        raise recipe_error(path, [Fault(path.name, "is a study and no recipe; run it with `fedclip study`")])
    raw, override_faults = apply_overrides(raw, overrides)
    return Recipe.checked(raw, path, faults + override_faults + wandb_faults(raw))


def wandb_faults(raw: Mapping[Any, Any]) -> list[Fault]:
    """Refuse a wandb that would open a connection; this depends on the machine, so it is no schema rule."""
    tracking, ours = raw.get("tracking_args"), raw.get("fedclip_args")
    wanted = isinstance(tracking, Mapping) and tracking.get("enable_wandb") is True
    online = isinstance(ours, Mapping) and ours.get("offline") is False
    if not wanted or online or os.environ.get("WANDB_MODE") in {"offline", "disabled"}:
        return []
    rule = "wandb would open a connection; export WANDB_MODE=offline, or set fedclip_args.offline: false"
    return [Fault("tracking_args.enable_wandb", rule, True)]
