"""What each field of a manifest may hold: one table of rules, used for every key."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from fedclip_edge.calibration import CALIBRATION_RULE, is_calibration
from fedclip_edge.errors import BundleError
from fedclip_edge.sample_range import RANGE_RULE, is_range

PRECISIONS = ("fp32", "fp16", "int8", "int8-weights")
# Role to the name of its file: with fixed names, an update and what is installed always mean the same files.
ROLES = {
    "head": "head.onnx",
    "encoder": "encoder.onnx",
    "encoder-data": "encoder.onnx.data",
    "preprocess": "preprocess.onnx",
}
MAX_NEXT_KEYS = 8
_SURROGATE = re.compile("[\ud800-\udfff]")

Check: TypeAlias = Callable[[Any], bool]
Rule: TypeAlias = "tuple[Check, str] | Mapping[str, Rule]"
"""A predicate with its wording, or the rules of an object inside."""


def require_object(value: object, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Return ``value`` when it is an object with exactly these keys, each of which keeps its rule; else ``malformed``.

    Messages call it `where`, such as ``manifest`` or ``files["head.onnx"]``.
    """
    if not isinstance(value, dict):
        raise BundleError("malformed", f"{where} is {reprlib.repr(value)}, but has to be an object")
    unknown, missing = sorted(set(value) - set(rules)), sorted(set(rules) - set(value))
    if unknown or missing:
        told = [f"unknown: {', '.join(unknown)[:200]}"] if unknown else []
        told += [f"missing: {', '.join(missing)}"] if missing else []
        raise BundleError("malformed", f"{where} has other keys than schema 1 ({'; '.join(told)}); export it again")
    for key, rule in rules.items():
        if isinstance(rule, Mapping):
            require_object(value[key], rule, key)
        elif not rule[0](value[key]):
            raise BundleError("malformed", f"{where}: {key} is {reprlib.repr(value[key])}, but has to be {rule[1]}")
    return value


def _is_text(value: object) -> bool:
    """Tell a string that can be written as UTF-8 from everything else."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_filled(value: object) -> bool:
    return _is_text(value) and value != ""


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_filled, value)) and 0 < len(value) == len(set(value))


def _is_table_of_text(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_privacy(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"epsilon", "delta"}:
        return False
    if not all(type(one) in (int, float) and math.isfinite(one) for one in value.values()):
        return False
    return bool(value["epsilon"] >= 0 and 0 < value["delta"] < 1)


def _integer(lowest: int, highest: int, unit: str = "") -> Rule:
    # type(), not isinstance(): a JSON true is an int for Python.
    told = "2**53 - 1" if highest == 2**53 - 1 else highest
    return lambda value: type(value) is int and lowest <= value <= highest, f"an integer from {lowest} to {told}{unit}"


def _matching(pattern: str, wording: str) -> Rule:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None, wording


def _one_of(names: tuple[str, ...]) -> Rule:
    return lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}"


_COUNT = _integer(0, 2**53 - 1)
_PIXELS = _integer(1, 4096, " (pixels)")
_TEXT: Rule = (_is_text, "a string")
_FILLED: Rule = (_is_filled, "a non-empty string")
_MOMENT: Rule = (
    lambda value: value is None or (type(value) is int and 0 <= value < 2**53),
    "null or UTC seconds as an integer from 0 to 2**53 - 1",
)
_HASH = _matching("[0-9a-f]{64}", "64 lower-case hex digits")
BOOLEAN: Rule = (lambda value: isinstance(value, bool), "true or false")

MANIFEST: dict[str, Rule] = {
    "schema": _integer(1, 1),
    "product": _FILLED,
    "sequence": _COUNT,
    "not_before": _MOMENT,
    "expires": _MOMENT,
    "labels": (_is_labels, "an array of one or more unique non-empty strings"),
    "prompt_template": _TEXT,
    "method": _FILLED,
    "round": _COUNT,
    "adapter": {"sha256": _HASH, "recipe_digest": _TEXT},
    "backbone": {"name": _FILLED, "fingerprint": _HASH},
    "feature_dim": _integer(1, 65536),
    "image_size": _integer(1, 4096),
    "precision": _one_of(PRECISIONS),
    "files": (lambda value: isinstance(value, dict), "an object"),
    "onnxruntime": {
        "lowest": _matching(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}", 'a version such as "1.16"'),
        "tested": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "an array of strings"),
    },
    "versions": (_is_table_of_text, "an object of strings"),
    "golden": {
        "features": _FILLED,
        "logits": _FILLED,
        "images": (lambda value: isinstance(value, list), "an array"),
    },
    "parity": (
        lambda value: isinstance(value, dict) and all(map(_is_table_of_text, value.values())),
        "an object of objects of strings",
    ),
    "next_keys": (
        lambda value: isinstance(value, list) and len(value) <= MAX_NEXT_KEYS and all(map(_is_text, value)),
        f"an array of at most {MAX_NEXT_KEYS} public keys in base64",
    ),
    "sample_range": (lambda value: value is None or is_range(value), f"null or {RANGE_RULE}"),
    "calibration": (lambda value: value is None or is_calibration(value), f"null or {CALIBRATION_RULE}"),
    "privacy": (
        lambda value: value is None or _is_privacy(value),
        "null or an object of epsilon (from 0) and delta (above 0, below 1)",
    ),
}
FILE: dict[str, Rule] = {
    "role": _one_of(tuple(ROLES)),
    "size": _integer(1, 2**53 - 1, " (bytes)"),
    "sha256": _HASH,
    "installed": BOOLEAN,
}
IMAGE: dict[str, Rule] = {"height": _PIXELS, "width": _PIXELS, "rgb": _FILLED}
