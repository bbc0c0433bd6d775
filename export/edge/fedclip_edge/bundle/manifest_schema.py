"""What each field of a manifest may hold: one table of rules, used for every key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedclip_edge.errors import BundleError

PRECISIONS = ("fp32", "fp16", "int8", "int8-weights")
# Role to the name of its file: with fixed names, an update and what is installed always mean the same files.
ROLES = {
    "head": "head.onnx",
    "encoder": "encoder.onnx",
    "encoder-data": "encoder.onnx.data",
    "preprocess": "preprocess.onnx",
}
RESERVED = ("manifest.json", "manifest.sig")
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}")
_SURROGATE = re.compile("[\ud800-\udfff]")

Check = Callable[[Any], bool]
Rule = tuple[Check, str]


def require_object(value: object, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Return ``value`` when it is an object with exactly these keys, each of which keeps its rule.

    Parameters
    ----------
    value
        What was parsed.
    rules
        Key to a predicate and its wording.
    where
        Name of the object for messages, such as ``manifest`` or ``files["head.onnx"]``.

    Raises
    ------
    BundleError
        ``malformed``, with the key, what it holds and the rule.
    """
    if not isinstance(value, dict):
        raise BundleError("malformed", f"{where} is {_shown(value)}, but has to be an object")
    unknown, missing = sorted(set(value) - set(rules)), sorted(set(rules) - set(value))
    if unknown or missing:
        told = [f"unknown: {', '.join(unknown)[:200]}"] if unknown else []
        told += [f"missing: {', '.join(missing)}"] if missing else []
        raise BundleError("malformed", f"{where} has other keys than schema 1 ({'; '.join(told)}); export it again")
    for key, (check, wording) in rules.items():
        if not check(value[key]):
            raise BundleError("malformed", f"{where}: {key} is {_shown(value[key])}, but has to be {wording}")
    return value


def require_file_name(name: str) -> None:
    """Refuse a name that is not a plain lower-case file name.

    Raises
    ------
    BundleError
        ``file-name``.
    """
    if not _FILE_NAME.fullmatch(name) or name in RESERVED:
        raise BundleError(
            "file-name",
            f"the manifest lists a file {name[:80]!r}; names have 1 to 64 of a-z 0-9 . _ -, start with a letter or "
            f"digit, and are none of {', '.join(RESERVED)}",
        )


def is_text(value: object) -> bool:
    """Tell a string that can be written as UTF-8 from everything else."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_filled(value: object) -> bool:
    return is_text(value) and value != ""


def _integer(lowest: int, highest: int) -> Check:
    # type(), not isinstance(): a JSON true is an int for Python.
    return lambda value: type(value) is int and lowest <= value <= highest


def _moment(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _matching(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_filled, value)) and 0 < len(value) == len(set(value))


def _is_free_form(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_free_form, value.values()))
    return is_text(value)


def _is_table_of_text(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_text, value.values()))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_COUNT = (_integer(0, 2**53 - 1), "an integer from 0 to 2**53 - 1")
_TEXT = (is_text, "a string")
_FILLED = (_is_filled, "a non-empty string")
_MOMENT = (_moment, "null or UTC seconds as an integer of 0 or more")
_HASH = (_matching(_HEX64), "64 lower-case hex digits")
_OBJECT = (lambda value: isinstance(value, dict), "an object")

MANIFEST: dict[str, Rule] = {
    "schema": (_integer(1, 1), "1"),
    "product": _FILLED,
    "sequence": _COUNT,
    "not_before": _MOMENT,
    "expires": _MOMENT,
    "labels": (_is_labels, "an array of one or more unique non-empty strings"),
    "prompt_template": _TEXT,
    "method": _FILLED,
    "round": _COUNT,
    "adapter": _OBJECT,
    "backbone": _OBJECT,
    "feature_dim": (_integer(1, 65536), "an integer from 1 to 65536"),
    "image_size": (_integer(1, 4096), "an integer from 1 to 4096"),
    "precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "files": _OBJECT,
    "onnxruntime": _OBJECT,
    "versions": (_is_table_of_text, "an object of strings"),
    "golden": _OBJECT,
    "parity": (lambda value: isinstance(value, dict) and _is_free_form(value), "an object of strings and objects"),
}
ADAPTER: dict[str, Rule] = {"sha256": _HASH, "recipe_digest": _TEXT}
BACKBONE: dict[str, Rule] = {"name": _FILLED, "fingerprint": _HASH}
FILE: dict[str, Rule] = {
    "role": (lambda value: isinstance(value, str) and value in ROLES, f"one of {', '.join(ROLES)}"),
    "size": (_integer(1, 2**53 - 1), "an integer from 1 to 2**53 - 1 (bytes)"),
    "sha256": _HASH,
    "installed": (lambda value: isinstance(value, bool), "true or false"),
}
ONNXRUNTIME: dict[str, Rule] = {
    "lowest": (_matching(_VERSION), 'a version such as "1.16"'),
    "tested": (_list_of(is_text), "an array of strings"),
}
GOLDEN: dict[str, Rule] = {
    "features": _FILLED,
    "logits": _FILLED,
    "images": (lambda value: isinstance(value, list), "an array"),
}
IMAGE: dict[str, Rule] = {
    "height": (_integer(1, 4096), "an integer from 1 to 4096 (pixels)"),
    "width": (_integer(1, 4096), "an integer from 1 to 4096 (pixels)"),
    "rgb": _FILLED,
}
