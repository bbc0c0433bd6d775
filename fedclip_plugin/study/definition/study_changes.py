"""What of a study would make other results than an earlier version of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from fedclip_plugin.recipe.schema.sections import NOT_IN_DIGEST, SECTIONS
from fedclip_plugin.study.definition.study import Study
from fedclip_plugin.study.definition.study_rules import OWN

_FREE = frozenset(f"{section}.{key}" for section, keys in NOT_IN_DIGEST.items() for key in keys) - {
    "train_args.comm_round"
}
_SHOWN = 3
"""Most cases that a difference is told of by name."""

Settings = dict[str, Any]


def study_changes(before: Mapping[Any, Any], now: Study) -> list[str]:
    """List what differs for the grid points that both versions of a study have.

    Cases, targets, seeds and points at the end of a grid may come and go; places, time-outs and devices may change.

    Parameters
    ----------
    before
        What an earlier ``study.yaml`` holds. It is only read, not checked, so that a later rule locks nobody out.

    Returns
    -------
    list of str
        A line a difference, with the cases; empty where all results stay what they are.
    """
    old, new = _points(before), _points(yaml.safe_load(now.to_yaml()))
    common = [point for point in new if point in old]
    told: dict[str, list[str]] = {}
    for point in common:
        for key in sorted({*old[point], *new[point]} - _FREE - set(OWN)):
            was, given = old[point].get(key, _default(key)), new[point].get(key, _default(key))
            if _plain(was) != _plain(given):
                told.setdefault(f"{key} was {was}, is {given}", []).append(point)
    return [f"{difference} ({_places(points, len(common))})" for difference, points in told.items()]


def _points(study: Mapping[Any, Any]) -> dict[str, Settings]:
    """Return every grid point of every case with all of its settings."""
    base = {
        f"{name}.{key}": value for name, keys in _map(study.get("recipe")).items() for key, value in _map(keys).items()
    }
    found = {}
    for name, case in _map(study.get("cases")).items():
        shared = base | _map(study.get("set")) | _map(_map(case).get("set"))
        for number, point in enumerate(_map(case).get("grid") or [{}]):
            found[f"case {name}, point {number}"] = shared | _map(point)
    return found


def _default(key: str) -> Any:
    """Return what a recipe has for a key that it leaves out."""
    section, _, name = key.partition(".")
    field = SECTIONS[section].model_fields.get(name) if section in SECTIONS else None
    return None if field is None or field.is_required() else field.get_default(call_default_factory=True)


def _map(given: Any) -> dict[Any, Any]:
    return dict(given) if isinstance(given, Mapping) else {}


def _plain(value: Any) -> Any:
    """Return a value as it compares: YAML reads ``1e-3`` as text and ``0.001`` as a number."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    try:
        return float(value) if isinstance(value, str | int | float) else value
    except ValueError:
        return value


def _places(points: list[str], of: int) -> str:
    if len(points) == of:
        return "every case"
    more = len(points) - _SHOWN
    return "; ".join(points[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
