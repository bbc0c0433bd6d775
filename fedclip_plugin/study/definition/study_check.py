"""Check a whole study, every cell's recipe included, and list every fault; nothing here stops at the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedclip_plugin.recipe.check import check, check_fields
from fedclip_plugin.recipe.faults import ABSENT, Fault, closest, from_pydantic
from fedclip_plugin.recipe.schema.sections import flat_sections, without_idle
from fedclip_plugin.recipe.schema.types import Section
from fedclip_plugin.study.definition.study import Case, Study, StudyName, cell_sections, count_cells
from fedclip_plugin.study.definition.study_rules import (
    base_faults,
    case_faults,
    image_faults,
    settings_faults,
    title_faults,
)

_NAME: TypeAdapter[str] = TypeAdapter(StudyName)

MOST_CELLS = 5_000
"""Most federations of a study; each takes seconds or more."""


def check_study(raw: Mapping[Any, Any]) -> list[Fault]:
    """List every fault of a study.

    Parameters
    ----------
    raw
        What the file holds, with the base recipe's sections under ``recipe``.

    Returns
    -------
    list of Fault
        Empty for a valid study. Cells are checked wherever their parts are valid by themselves.
    """
    cases: dict[str, Case] = {}
    values, faults = _fields("", Study, {**raw, "cases": ABSENT} if "cases" in raw else raw)
    faults += _cases(raw.get("cases", ABSENT), cases)
    if "recipe" not in values:
        return faults
    base, shared = values["recipe"], values.get("settings", {})
    faults += base_faults(base)
    faults += settings_faults("set", shared)
    below = {**flat_sections(base), **shared}
    faults += image_faults(below, values.get("targets") or ())
    faults += title_faults(cases)
    for name, case in cases.items():
        faults += case_faults(f"cases.{name}", case, below, values.get("targets") or ())
    targets, seeds = values.get("targets") or (None,), values.get("seeds") or (0,)
    if (cells := count_cells(cases, targets, seeds)) > MOST_CELLS:
        rule = f"make {cells:,} cells with all grids, targets and seeds; a study has {MOST_CELLS:,} at most"
        return [*faults, Fault("cases", rule)]
    return faults + list(_cells(base, _known(shared), targets, seeds, cases))


def _fields(where: str, model: type[Section], given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Fault]]:
    keys = [field.alias or name for name, field in model.model_fields.items()]

    def _unknown(key: Any, value: Any) -> Fault:
        place = f"{where}.{key}" if where else str(key)
        return Fault(place, f"unknown key; there are {', '.join(keys)}", value, closest(key, keys))

    return check_fields(where, model, given, _unknown)


def _name_faults(where: str, name: Any) -> list[Fault]:
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        return from_pydantic(where, name, error.errors())
    return []


def _cases(given: Any, cases: dict[str, Case]) -> Iterator[Fault]:
    """Check each case by itself; put the valid ones into `cases`."""
    if given is ABSENT:
        return
    if not isinstance(given, Mapping) or not given:
        yield Fault("cases", "must hold at least one case, as in 'fedclip: {title: FedCLIP}'", given)
        return
    for name, content in given.items():
        where = f"cases.{name}"
        faults = _name_faults(where, name)
        if isinstance(content, Mapping):
            faults += _fields(where, Case, content)[1]
        else:
            faults.append(Fault(where, "must hold keys: title, and perhaps set and grid", content))
        if not faults:
            cases[name] = Case.model_validate(content)
        yield from faults


def _cells(
    base: Mapping[Any, Any],
    shared: Mapping[str, Any],
    targets: tuple[str | None, ...],
    seeds: tuple[int, ...],
    cases: Mapping[str, Case],
) -> Iterator[Fault]:
    """Check every cell's recipe; what is wrong with several of them is told where it is met first."""
    seen: set[str] = set()

    def _new(where: str, layers: tuple[Mapping[str, Any], ...], target: str | None) -> Iterator[Fault]:
        every = [without_idle(cell_sections(base, (shared, *map(_known, layers)), target, seed)) for seed in seeds]
        drawn = flat_sections(every[0]).get("fedclip_args.client_drop_rate")  # what is drawn depends on the seed
        for fault in chain.from_iterable(check(sections)[1] for sections in (every if drawn else every[:1])):
            if fault.line() not in seen:
                seen.add(fault.line())
                yield Fault(f"{where}: {fault.where}", fault.rule, fault.value, fault.meant)

    for target in targets:
        yield from _new(f"recipe with target {target}" if target else "recipe", (), target)
    told = frozenset(seen)
    for name, case in cases.items():
        for number, point in enumerate(case.grid):
            seen = set(told) if number == 0 else seen
            where = f"cases.{name}" if case.grid == ({},) else f"cases.{name}.grid[{number}]"
            for target in targets:
                yield from _new(where, (case.settings, point), target)


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out names that a study does not take; they are told by `settings_faults`."""
    return {name: value for name, value in settings.items() if not any(settings_faults("", {name: value}))}
