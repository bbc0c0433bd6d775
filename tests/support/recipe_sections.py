"""Recipes as plain sections, changed key by key."""

import copy


def changed(good, changes):
    """Return the sections of a recipe with ``section.key`` set, or taken out where the value is None."""
    raw = copy.deepcopy(good)
    for where, value in changes.items():
        section, key = where.split(".")
        raw.setdefault(section, {})[key] = value
        if value is None:
            del raw[section][key]
    return raw
