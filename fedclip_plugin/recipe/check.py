"""Check a whole recipe, key by key, and list every fault; nothing here stops at the first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from fedclip_plugin.recipe.faults import ABSENT, Fault, closest, from_pydantic
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS, SECRETS, refusal
from fedclip_plugin.recipe.rules.data import cross_faults
from fedclip_plugin.recipe.schema.sections import SECTIONS, SWITCHES, homes

Values = dict[str, Any]


def check(raw: Mapping[Any, Any]) -> list[Fault]:
    """List every fault of a recipe, those between keys included.

    Parameters
    ----------
    raw
        Section name to a mapping of keys, as YAML gives it.

    Returns
    -------
    list of Fault
        Empty for a valid recipe. Rules between keys are checked wherever their keys are valid by themselves.
    """
    faults = [_not_a_section(name, raw) for name in raw if name not in SECTIONS]
    values: Values = {}
    for section in SECTIONS:
        faults += _section_faults(section, raw, values)
    return faults + cross_faults(values)


def _not_a_section(name: Any, raw: Mapping[Any, Any]) -> Fault:
    if name in REFUSED_SECTIONS:
        return Fault(name, REFUSED_SECTIONS[name])
    if isinstance(name, str) and homes(name):
        return Fault(name, f"is a key, not a section; it belongs to {' or '.join(homes(name))}", raw[name])
    return unknown_section(str(name), name)


def unknown_section(where: str, name: Any) -> Fault:
    """Say that there is no such section, and which one was probably meant.

    Parameters
    ----------
    where
        What the line begins with.
    name
        The section's name as it was given.

    Returns
    -------
    Fault
        With the names of all sections.
    """
    stems = [section.removesuffix("_args") for section in SECTIONS]
    meant = closest(str(name).removesuffix("_args"), stems)
    rule = f"unknown section; sections are {', '.join(SECTIONS)}"
    return Fault(where, rule, meant=meant and f"{meant}_args")


def _section_faults(section: str, raw: Mapping[Any, Any], values: Values) -> list[Fault]:
    """Check one section; put its valid values, defaults included, into `values`."""
    if section not in raw and section in SWITCHES:
        return []
    given = raw.get(section, {})
    if given is None:
        return [Fault(section, "has no keys, which crashes FedML; give it keys or leave it out")]
    if not isinstance(given, Mapping):
        return [Fault(section, "must hold keys, as in 'key: value'", given)]
    fields = SECTIONS[section].model_fields
    faults = [unknown_key(section, key, given[key]) for key in given if key not in fields]
    for key, field in fields.items():
        where = f"{section}.{key}"
        if key in given:
            faults += _value_faults(section, key, given[key], values)
        elif field.is_required():
            faults.append(Fault(where, f"is required in {section}"))
        else:
            values[where] = field.get_default(call_default_factory=True)
    return faults


def unknown_key(section: str, key: Any, value: Any) -> Fault:
    """Say what is wrong with a key that its section does not have.

    Parameters
    ----------
    section
        A known section.
    key
        A key that is not among its keys.
    value
        What was given for it.

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
def _adapter(section: str, key: str) -> TypeAdapter[Any]:
    field = SECTIONS[section].model_fields[key]
    annotated: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(annotated)


def _value_faults(section: str, key: str, value: Any, values: Values) -> list[Fault]:
    where = f"{section}.{key}"
    try:
        values[where] = _adapter(section, key).validate_python(value)
    except ValidationError as error:
        reason = refusal(key, value)
        return [Fault(where, reason, value)] if reason else from_pydantic(where, value, error.errors())
    return []
