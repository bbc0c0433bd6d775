"""What is told of every key: a meaning from the docstring, a type from the field, and a JSON schema that agrees."""

import re

import pytest
import yaml

from fedclip_plugin.methods import METHODS
from fedclip_plugin.recipe import recipe_files, recipe_name
from fedclip_plugin.recipe.reference import json_schema, meanings, section_keys, section_meaning
from fedclip_plugin.recipe.schema.sections import SECTIONS

TYPES = {"boolean": bool, "integer": int, "number": (int, float), "string": str, "array": list, "object": dict}
FITS = {
    "enum": lambda value, allowed: value in allowed,
    "const": lambda value, only: value == only,
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "pattern": lambda value, pattern: bool(re.search(pattern, value)),
    "required": lambda value, names: set(names) <= set(value),
}


def fits(value, schema, defs):
    """Tell whether a value is as a JSON schema has it; of the draft, what ours use."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return any(fits(value, part, defs) for part in schema["anyOf"])
    if not isinstance(value, TYPES[schema["type"]]):
        return False
    properties, items = schema.get("properties"), schema.get("items")
    inside = properties is None or all(
        name in properties and fits(own, properties[name], defs) for name, own in value.items()
    )
    listed = items is None or all(fits(own, items, defs) for own in value)
    return inside and listed and all(rule(value, schema[key]) for key, rule in FITS.items() if key in schema)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_every_section_has_a_meaning_of_its_own(section):
    assert section_meaning(section).endswith(".")
    assert set(meanings(SECTIONS[section])) == set(SECTIONS[section].model_fields)
    told = [key.meaning for key in section_keys(section)]
    assert all(meaning.endswith(".") and len(meaning) > 10 for meaning in told)
    assert len(set(told)) == len(told)


def test_a_key_tells_its_type_its_bounds_and_its_default():
    keys = {key.full_name: key for section in SECTIONS for key in section_keys(section)}
    assert {name: (keys[name].takes, keys[name].default) for name in _EXPECTED} == _EXPECTED
    assert "FedML's GRPC runs code that arrives" in keys["comm_args.backend"].refused["GRPC"]
    assert keys["fedclip_args.method"].takes.replace(" or ", ", ").split(", ") == list(METHODS)


def test_the_default_method_is_the_papers_and_what_is_recommended_is_what_recipes_for_own_images_take():
    (method,) = [key for key in section_keys("fedclip_args") if key.name == "method"]
    own = [
        yaml.safe_load(file.read_text())["fedclip_args"] for file in recipe_files() if file.parent.name == "own_images"
    ]
    ((taken, views),) = {(each["method"], each["augmented_views"]) for each in own}
    assert method.default == "fedclip" != taken
    assert f"``{taken}`` with ``augmented_views: {views}`` is recommended" in method.meaning


_EXPECTED = {
    "comm_args.backend": ("MPI or sp", None),
    "train_args.comm_round": ("whole number at least 1", None),
    "train_args.learning_rate": ("number greater than 0", "0.0003"),
    "train_args.client_id_list": ('"[]"', '"[]"'),
    "device_args.using_gpu": ("true or false", "true"),
    "data_args.data_silo_config": ("list of paths", "not set"),
    "fedclip_args.silos": ("list of folder names", "not set"),
    "fedclip_args.codec": ("none, fp16 or int8", "none"),
    "fedclip_args.difficulty": ("number at least 0 and at most 3", "1.0"),
    "fedclip_args.prompt_template": ("text", "a picture of a {}"),
}


@pytest.mark.parametrize("file", recipe_files(), ids=recipe_name)
def test_the_schema_takes_every_recipe_and_no_mistake(file):
    schema, recipe = json_schema(), yaml.safe_load(file.read_text())
    if "learning_rate" in recipe["train_args"]:  # 3e-4 is text to YAML 1.1
        recipe["train_args"]["learning_rate"] = float(recipe["train_args"]["learning_rate"])
    assert fits(recipe, schema, schema["$defs"])
    for key, value in (("comm_round", 0), ("comm_rounds", 3), ("federated_optimizer", "FedNova"), ("epochs", "1")):
        wrong = {**recipe, "train_args": {**recipe["train_args"], key: value}}
        assert not fits(wrong, schema, schema["$defs"])


def test_every_property_of_the_schema_is_described():
    for own in json_schema()["$defs"].values():
        assert own["description"] and all("description" in field for field in own["properties"].values())
