"""What every key of a recipe takes and means, from the one source: the fields of the sections and their docstrings."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from fedclip_plugin.recipe.fedml_refusals import REFUSED_IF_SET, REFUSED_VALUES
from fedclip_plugin.recipe.schema.sections import NOT_IN_DIGEST, SECTIONS, RecipeSections
from fedclip_plugin.recipe.schema.types import MOST

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTES = "\n\nAttributes\n----------\n"
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "greater than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes
    ----------
    section, name
        ``section.name`` is what ``--set`` takes.
    takes
        Its type and the values that it may have, in words.
    default
        The value without it, as YAML has it, or ``not set``; None where the key is required.
    meaning
        From the docstring, with its marks for code.
    refused
        FedML's values that are refused, with the reason.
    may_change
        Whether a run that is resumed may have another value.
    """

    section: str
    name: str
    takes: str
    default: str | None
    meaning: str
    refused: Mapping[str, str]
    may_change: bool

    @property
    def full_name(self) -> str:
        """``section.name``."""
        return f"{self.section}.{self.name}"


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out pydantic's titles, which repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no for every field."""
        return False


def section_keys(section: str) -> list[Key]:
    """Return the keys of a section, in the order of its class."""
    model = SECTIONS[section]
    known, properties = meanings(model), model.model_json_schema()["properties"]
    return [
        Key(
            section,
            name,
            _takes(properties[name]),
            None if field.is_required() else _as_yaml(field.get_default(call_default_factory=True)),
            known[name],
            {"any other": REFUSED_IF_SET[name]} if name in REFUSED_IF_SET else REFUSED_VALUES.get(name, {}),
            name in NOT_IN_DIGEST.get(section, ()),
        )
        for name, field in model.model_fields.items()
    ]


def section_meaning(section: str) -> str:
    """Return what a section is for."""
    text = _docstring(SECTIONS[section]).partition(_ATTRIBUTES)[0]
    told = _joined(text.removeprefix(f"``{section}``: "))
    return told[0].upper() + told[1:]


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the Attributes of a class's numpy-style docstring say of each name."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", _docstring(model).partition(_ATTRIBUTES)[2]):
        names, _, text = block.partition("\n")
        found |= dict.fromkeys(map(str.strip, names.split(",")), _joined(text))
    return found


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of recipes, without the rules between keys."""
    schema = RecipeSections.model_json_schema(schema_generator=_WithoutTitles)
    for section, model in SECTIONS.items():
        own = schema["$defs"][model.__name__]
        own["description"] = plain(section_meaning(section))
        for name, meaning in meanings(model).items():
            own["properties"][name]["description"] = plain(meaning)
    told = "Sections and keys; fedclip validate knows the rules between them too."
    return {"$schema": _DIALECT, **schema, "title": "A recipe of FedCLIP for FedML", "description": told}


def plain(text: str) -> str:
    """Return a meaning without its marks for code."""
    return text.replace("`", "")


def _docstring(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _joined(text: str) -> str:
    return " ".join(text.split())


def _takes(schema: Mapping[str, Any]) -> str:
    """Return the values that a field's JSON schema allows, in words; None, which leaves a key out, is not told."""
    if "anyOf" in schema:
        return " or ".join(_takes(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema or "const" in schema:
        values = [_as_yaml(value) for value in schema.get("enum", [schema.get("const")])]
        return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]
    if schema["type"] == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])} {_takes(schema['prefixItems'][0])}s"
        return f"list of {_takes(schema['items'])}s"
    named = {"boolean": "true or false", "integer": "whole number", "number": "number", "string": "text"}
    kind = schema.get("format", "").replace("-", " ") or named[schema["type"]]
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema and schema[key] != MOST]
    return " ".join([kind, " and ".join(bounds)]).rstrip()


def _as_yaml(value: Any) -> str:
    if value is None:
        return "not set"
    text = str(value) if isinstance(value, str | Path) else json.dumps(value)
    return text if text.strip("[]") else f'"{text}"'
