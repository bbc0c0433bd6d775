"""From a YAML file to a checked study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe.faults import ABSENT, Fault, recipe_error
from fedclip_plugin.recipe.library import find_recipe, holds_study
from fedclip_plugin.recipe.overrides import parse_override
from fedclip_plugin.recipe.schema.sections import SECTIONS
from fedclip_plugin.recipe.yaml_reader import read_yaml
from fedclip_plugin.study.definition.study import Study
from fedclip_plugin.study.definition.study_check import check_study


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read, override and check a study.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        ``section.key=value`` texts for every cell; they win over the study's and the cases' settings, and keys of
        a grid cannot be overridden.

    Returns
    -------
    Study
        With the base recipe's sections in place of its name.

    Raises
    ------
    RecipeError
        Every fault at once, those of every cell's recipe included, each with case and point.
    """
    path = Path(path)
    raw, faults = read_yaml(path)
    if not holds_study(raw) and any(name in SECTIONS for name in raw):
        raise recipe_error(path, [Fault(path.name, "is a recipe and no study; run it with `fedclip launch`")])
    raw, more = _with_base(raw)
    faults += more
    for override in overrides:
        name, value, fault = parse_override(override)
        faults += [fault] if fault else _override(raw, name, value)
    faults += check_study(raw)
    if faults:
        raise recipe_error(path, faults)
    return Study.model_validate(raw)


def _with_base(raw: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[Fault]]:
    """Put the base recipe's sections in place of its name or path."""
    named = raw.get("recipe")
    if not isinstance(named, str):
        return dict(raw), []
    try:
        sections, faults = read_yaml(find_recipe(named))
    except RecipeError as error:
        told = [line.strip() for line in str(error).splitlines()[1:]]
        return {**raw, "recipe": ABSENT}, [Fault("recipe", line) for line in told]
    if holds_study(sections):
        return {**raw, "recipe": ABSENT}, [Fault("recipe", "is a study; a study begins with a recipe", named)]
    return {**raw, "recipe": sections}, [Fault(f"recipe, {fault.where}", fault.rule) for fault in faults]


def _override(raw: dict[Any, Any], name: str, value: Any) -> list[Fault]:
    """Set a key for every cell: in the study's settings, and out of the cases'."""
    cases = raw.get("cases")
    faults: list[Fault] = []
    for case, content in cases.items() if isinstance(cases, Mapping) else ():
        if not isinstance(content, dict):
            continue
        if isinstance(content.get("set"), dict):
            content["set"].pop(name, None)
        grid = content.get("grid")
        points = [point for point in grid if isinstance(point, Mapping)] if isinstance(grid, list) else []
        if any(name in point for point in points):
            faults.append(Fault(f"--set {name}", f"is searched by the grid of case {case}; change the file instead"))
    if isinstance(raw.setdefault("set", {}), dict):
        raw["set"][name] = value
    return faults
