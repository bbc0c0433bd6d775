"""From bare keys, as Python passes keywords, to a checked recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedclip_plugin.recipe.check import unknown_key
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS
from fedclip_plugin.recipe.load import wandb_faults
from fedclip_plugin.recipe.recipe import Recipe
from fedclip_plugin.recipe.schema.sections import SECTIONS, SWITCHES, homes

FIXED: dict[str, dict[str, Any]] = {
    "common_args": {"training_type": "cross_silo"},
    "train_args": {"federated_optimizer": "FedAvg"},
    "validation_args": {"frequency_of_the_test": 1},
    "comm_args": {"backend": "MPI"},
}
"""Keys without a default that FedML asks for and that have one sensible value."""


def bare_keys(keys: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return keys with those of whole sections among them, but for the sections that not every recipe has.

    A key that is given twice is a RecipeError.
    """
    bare = {key: value for key, value in keys.items() if not _opened(key, value)}
    faults = []
    for section, own in keys.items():
        for key, value in own.items() if _opened(section, own) else ():
            if key in bare:
                faults.append(Fault(f"{section}.{key}", "is given twice", value))
            bare[key] = value
    if faults:
        raise recipe_error(source, faults)
    return bare


def _opened(key: str, value: Any) -> bool:
    return key in SECTIONS and key not in SWITCHES and isinstance(value, Mapping)


def _nowhere(key: str, found: Fault) -> Fault:
    """Return the fault of a key that no section has, without a section; FedML's that are refused keep their reason."""
    if key in REFUSED_SECTIONS:
        return Fault(key, REFUSED_SECTIONS[key])
    if key in REFUSED_KEYS:
        return replace(found, where=key)
    meant = found.meant and found.meant.rpartition(".")[2]
    return replace(
        found, where=key, rule="unknown key" if meant else "unknown key; 'fedclip keys' lists all", meant=meant
    )


def recipe_from_keys(keys: Mapping[str, Any], source: str) -> Recipe:
    """Build a recipe from keys without their sections.

    Parameters
    ----------
    keys
        Bare keys, each of which belongs to one section, and whole sections as mappings, such as ``defense_args={...}``.
    source
        What the error names as the place of the keys.

    Raises
    ------
    RecipeError
        Every fault at once: unknown keys (with the closest name), keys of several sections, wrong values, broken rules.
    """
    raw: dict[str, dict[str, Any]] = {name: dict(given) for name, given in FIXED.items()}
    if keys.get("training_type") == "simulation":
        raw["comm_args"]["backend"] = "sp"  # this process; another backend can be given
    faults: list[Fault] = []
    for key, value in keys.items():
        places = [key] if key in SECTIONS else homes(key)
        if key in SECTIONS and not isinstance(value, Mapping):
            faults.append(Fault(key, "is a section: give it as a dictionary of keys", value))
        elif len(places) > 1:
            faults.append(Fault(key, f"belongs to several sections: give {' or '.join(places)} as a dictionary", value))
        elif not places:
            faults.append(_nowhere(key, unknown_key("fedclip_args", key, value)))
        elif key in SECTIONS:
            raw.setdefault(key, {}).update(value)
        else:
            raw.setdefault(places[0], {})[key] = value
    return Recipe.checked(raw, source, faults + wandb_faults(raw))
