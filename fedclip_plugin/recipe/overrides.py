"""Overrides from the command line: `section.key=value`, existing keys only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fedclip_plugin.recipe.check import unknown_key, unknown_section
from fedclip_plugin.recipe.faults import Fault, brief, closest
from fedclip_plugin.recipe.fedml_refusals import REFUSED_SECTIONS, SECRETS
from fedclip_plugin.recipe.schema.sections import SECTIONS, homes
from fedclip_plugin.recipe.yaml_reader import RecipeLoader, control_character

_OF_LISTS = (yaml.ScalarToken, yaml.FlowSequenceStartToken, yaml.FlowEntryToken, yaml.FlowSequenceEndToken)


def apply_overrides(raw: Mapping[Any, Any], overrides: Sequence[str]) -> tuple[dict[Any, Any], list[Fault]]:
    """Set keys of a recipe from `section.key=value` texts; a later one wins.

    Parameters
    ----------
    raw
        The recipe's sections; not changed.
    overrides
        E.g. ``["train_args.comm_round=20"]``, each as for `parse_override`; ``null`` and nothing unset a key.

    Returns
    -------
    dict
        The sections with the overrides in place.
    list of Fault
        Overrides that are no key of the schema, or not of that form.
    """
    sections = copy_sections(raw)
    faults: list[Fault] = []
    for override in overrides:
        name, value, fault = parse_override(override)
        if fault:
            faults.append(fault)
        else:
            put(sections, name, value)
    return sections, faults


def parse_override(override: str) -> tuple[str, Any, Fault | None]:
    """Take an override from the command line apart.

    Parameters
    ----------
    override
        ``section.key=value``. The value is read as YAML where it is one number, word, quoted text or ``[list]`` to YAML
        from its first character to its last; any other text is taken as it stands, for the shell has quoted it already.

    Returns
    -------
    str
        ``section.key``.
    Any
        The value.
    Fault or None
        What is wrong with it; name and value are of no use then.
    """
    name, equals, text = override.partition("=")
    name = name.strip()
    where = f"--set {brief(name if name.partition('.')[2] in SECRETS else override)}"
    if not equals:
        return "", None, Fault(where, "must be section.key=value; e.g. train_args.comm_round=20")
    fault = name_fault(where, name)
    if fault:
        return "", None, fault
    if found := control_character(text):
        return "", None, Fault(where, f"the value holds {found}, which YAML does not take; take it out")
    try:
        return name, _value(text), None
    except yaml.constructor.ConstructorError as error:
        return "", None, Fault(where, brief(str(error.problem)))


def _value(text: str) -> Any:
    """Read a text as YAML if YAML takes it whole, as one scalar or list; otherwise take it as it stands."""
    if text and not _is_one_value(text):
        return text
    try:
        value = RecipeLoader(text).get_single_data()
    except (yaml.scanner.ScannerError, yaml.parser.ParserError):
        return text
    quoted = text.strip().startswith(("'", '"'))
    return text if isinstance(value, str) and not quoted else value


def _is_one_value(text: str) -> bool:
    """Tell whether nothing in a text is a comment, a reference, a mapping, or something else that YAML would drop."""
    end, between, tokens = 0, "", []
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            between += text[end : token.start_mark.index]
            end = token.end_mark.index
            tokens.append(token)
    except yaml.YAMLError:
        return False
    inner, comment = tokens[1:-1], (between + text[end:]).strip()
    if comment or not inner or len(text.splitlines()) > 1 or text.strip() == "~":
        return False
    flow = all(isinstance(token, _OF_LISTS) and getattr(token, "style", None) not in ("|", ">") for token in inner)
    return flow and (len(inner) == 1 or isinstance(inner[0], yaml.FlowSequenceStartToken))


def name_fault(where: str, name: str) -> Fault | None:
    """Say what is wrong with a key's full name, None when the schema has it."""
    section, dot, key = name.partition(".")
    if not dot:
        return _without_section(where, section)
    if section in REFUSED_SECTIONS:
        return Fault(where, REFUSED_SECTIONS[section])
    if section not in SECTIONS:
        return unknown_section(where, section)
    if key not in SECTIONS[section].model_fields:
        fault = unknown_key(section, key, None)
        return Fault(where, fault.rule, meant=fault.meant)
    return None


def copy_sections(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """Copy sections so that their keys can be set without changing the original."""
    return {name: dict(keys) if isinstance(keys, Mapping) else keys for name, keys in raw.items()}


def put(sections: dict[Any, Any], name: str, value: Any) -> None:
    """Set one key of sections in place; None unsets it.

    Parameters
    ----------
    sections
        The sections; a section that is no mapping is left alone, it is reported later.
    """
    section, _, key = name.partition(".")
    if sections.get(section) is None:
        sections[section] = {}
    keys = sections[section]
    if not isinstance(keys, dict):
        return
    if value is None:
        keys.pop(key, None)
    else:
        keys[key] = value


def _without_section(where: str, key: str) -> Fault:
    if key in SECTIONS:
        return Fault(where, f"is a section; write {key}.key=value")
    places = [f"{section}.{key}" for section in homes(key)]
    if places:
        return Fault(where, f"must name the section; write {' or '.join(places)}")
    every = [f for model in SECTIONS.values() for f in model.model_fields]
    meant = closest(key, every)
    return Fault(where, "unknown key; write section.key=value", meant=meant and f"{homes(meant)[0]}.{meant}")
