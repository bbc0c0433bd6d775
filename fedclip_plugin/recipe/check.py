"""Check a whole recipe, key by key, and list every fault; nothing here stops at the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from fedclip_plugin.recipe.faults import ABSENT, Fault, Rule, Values, closest, from_pydantic
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS, SECRETS, refusal
from fedclip_plugin.recipe.rules import (
    data,
    defences,
    differential_privacy,
    one_round,
    quorum,
    robustness,
    secure_sums,
    simulation,
    training,
)
from fedclip_plugin.recipe.schema.sections import SECTIONS, SWITCHES, homes

_PARTS = (data, training, one_round, simulation, defences, differential_privacy, robustness, quorum, secure_sums)
_RULES: tuple[Rule, ...] = tuple(rule for part in _PARTS for rule in part.RULES)


def check(raw: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Check a recipe, rules between keys included.

    Parameters
    ----------
    raw
        Section name to a mapping of keys, as YAML gives it.

    Returns
    -------
    dict
        ``section.key`` to its value, defaults included, for every key that is valid by itself.
    list of Fault
        All of them; empty for a valid recipe. Rules between keys are checked wherever their keys are valid.
    """
    values: dict[str, Any] = {}
    faults = [_not_a_section(name, raw) for name in raw if name not in SECTIONS]
    for section, model in SECTIONS.items():
        given = raw.get(section, {})
        if section not in raw and section in SWITCHES:
            continue
        if given is None:
            faults.append(Fault(section, "has no keys, which crashes FedML; give it keys or leave it out"))
        elif not isinstance(given, Mapping):
            faults.append(Fault(section, "must hold keys, as in 'key: value'", given))
        else:
            own, found = check_fields(section, model, given, partial(unknown_key, section))
            values |= {f"{section}.{key}": value for key, value in own.items()}
            faults += found
    return values, faults + cross_faults(values)


def cross_faults(values: Values) -> list[Fault]:
    """List the faults between keys; none when all rules hold."""
    return [fault for rule in _RULES for fault in rule(values)]


def check_fields(
    where: str, model: type[BaseModel], given: Mapping[Any, Any], unknown: Callable[[Any, Any], Fault]
) -> tuple[dict[str, Any], list[Fault]]:
    """Check a mapping against the fields of a model, key by key.

    Parameters
    ----------
    where
        What the mapping is called in front of its keys; empty for a whole file.
    given
        The mapping; a value `ABSENT` stands for one that is told of elsewhere.
    unknown
        Makes the fault of a key that is no field, of the key and its value.

    Returns
    -------
    dict
        Field to its value, defaults included, where it is valid.
    """
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    faults = [unknown(key, value) for key, value in given.items() if key not in names]
    try:
        whole = model.model_validate({key: given[key] for key in names if key in given})
        return {name: getattr(whole, name) for name in names.values()}, faults
    except ValidationError:
        values, found = _one_by_one(where, model, given, names)
        return values, faults + found


def _one_by_one(
    where: str, model: type[BaseModel], given: Mapping[Any, Any], names: Mapping[str, str]
) -> tuple[dict[str, Any], list[Fault]]:
    """Check each field by itself, so that the valid ones are known beside the faults; `names` by key."""
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, name in names.items():
        field, place = model.model_fields[name], f"{where}.{key}" if where else key
        if key not in given and field.is_required():
            faults.append(Fault(place, f"is required in {where}" if where else "is required"))
        elif key not in given:
            values[name] = field.get_default(call_default_factory=True)
        elif given[key] is not ABSENT:
            try:
                values[name] = _adapter(model, name).validate_python(given[key])
            except ValidationError as error:
                reason = refusal(key, given[key])
                faults += (
                    [Fault(place, reason, given[key])] if reason else from_pydantic(place, given[key], error.errors())
                )
    return values, faults


def _not_a_section(name: Any, raw: Mapping[Any, Any]) -> Fault:
    if name in REFUSED_SECTIONS:
        return Fault(name, REFUSED_SECTIONS[name])
    if isinstance(name, str) and homes(name):
        return Fault(name, f"is a key, not a section; it belongs to {' or '.join(homes(name))}", raw[name])
    return unknown_section(str(name), name)


def unknown_section(where: str, name: Any) -> Fault:
    """Say at the place ``where`` that there is no such section, which there are, and which was probably meant."""
    stems = [section.removesuffix("_args") for section in SECTIONS]
    meant = closest(str(name).removesuffix("_args"), stems)
    rule = f"unknown section; sections are {', '.join(SECTIONS)}"
    return Fault(where, rule, meant=meant and f"{meant}_args")


def unknown_key(section: str, key: Any, value: Any) -> Fault:
    """Say what is wrong with a key that its section does not have.

    Returns
    -------
    Fault
        Why FedML's key is refused, where the key belongs, or what was probably meant.
    """
    where = f"{section}.{key}"
    if key in REFUSED_KEYS:
        return Fault(where, REFUSED_KEYS[key], ABSENT if key in SECRETS else value)
    if isinstance(key, str) and homes(key):
        return Fault(where, f"is in the wrong section; it belongs to {' or '.join(homes(key))}", value)
    meant = closest(key, SECTIONS[section].model_fields)
    if meant:
        return Fault(where, f"unknown key of {section}", value, meant)
    elsewhere = closest(key, [f for model in SECTIONS.values() for f in model.model_fields])
    hint = f"{homes(elsewhere)[0]}.{elsewhere}" if elsewhere else None
    rule = f"unknown key; {section} takes {', '.join(SECTIONS[section].model_fields)}"
    return Fault(where, rule, value, hint)


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    annotated: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(annotated)
