"""Overrides from the command line: `section.key=value`, existing keys only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .check import unknown_key, unknown_section
from .faults import Fault, closest
from .fedml_keys import SECRETS
from .sections import SECTIONS, homes


def apply_overrides(raw: Mapping[Any, Any], overrides: Sequence[str]) -> tuple[dict[Any, Any], list[Fault]]:
    """Set keys of a recipe from `section.key=value` texts; a later one wins.

    Parameters
    ----------
    raw
        The recipe's sections; not changed.
    overrides
        E.g. ``["train_args.comm_round=20"]``; values are read as YAML, ``null`` and nothing unset a key.

    Returns
    -------
    dict
        The sections with the overrides in place.
    list of Fault
        Overrides that are no key of the schema, or not of that form.
    """
    sections = {name: dict(keys) if isinstance(keys, Mapping) else keys for name, keys in raw.items()}
    faults: list[Fault] = []
    for override in overrides:
        section, key, value, fault = _parse(override)
        if fault:
            faults.append(fault)
        elif value is None:
            _keys(sections, section).pop(key, None)
        else:
            _keys(sections, section)[key] = value
    return sections, faults


def _keys(sections: dict[Any, Any], section: str) -> dict[Any, Any]:
    """Return a section's keys, made where there are none; a section that is no mapping is reported later."""
    if sections.get(section) is None:
        sections[section] = {}
    keys = sections[section]
    return keys if isinstance(keys, dict) else {}


def _parse(override: str) -> tuple[str, str, Any, Fault | None]:
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    where = f"--set {name if key in SECRETS else override}"
    if not equals:
        return "", "", None, Fault(where, "must be section.key=value; e.g. train_args.comm_round=20")
    if not dot:
        return "", "", None, _without_section(where, section)
    if section not in SECTIONS:
        return "", "", None, unknown_section(where, section)
    if key not in SECTIONS[section].model_fields:
        fault = unknown_key(section, key, None)
        return "", "", None, Fault(where, fault.rule, meant=fault.meant)
    try:
        return section, key, yaml.safe_load(text), None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        return "", "", None, Fault(where, f"the value is not YAML ({problem}); put it in quotes")


def _without_section(where: str, key: str) -> Fault:
    if key in SECTIONS:
        return Fault(where, f"is a section; write {key}.key=value")
    places = [f"{section}.{key}" for section in homes(key)]
    if places:
        return Fault(where, f"must name the section; write {' or '.join(places)}")
    every = [f for model in SECTIONS.values() for f in model.model_fields]
    meant = closest(key, every)
    return Fault(where, "unknown key; write section.key=value", meant=meant and f"{homes(meant)[0]}.{meant}")
