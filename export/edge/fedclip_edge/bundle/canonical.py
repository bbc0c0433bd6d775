"""The one way in which a manifest is written as bytes, the same in Python and in JavaScript."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from fedclip_edge.errors import BundleError

MAX_DEPTH = 32
_LARGEST = 2**53
# The closing quote is optional so that the search never turns back: hostile input costs linear time.
_STRINGS = re.compile(rb'"(?:[^"\\]+|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def dump(value: object) -> bytes:
    """Write a value as canonical JSON: ASCII, sorted keys, no blanks, no real numbers.

    Parameters
    ----------
    value
        Objects with ASCII keys, arrays, strings, booleans, null and integers below 2**53 in magnitude.

    Returns
    -------
    bytes
        The only spelling of this value that :func:`parse` accepts.

    Raises
    ------
    BundleError
        ``not-canonical`` when the value holds something else, such as a float.
    """
    _require_plain(value, MAX_DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def parse(raw: bytes) -> Any:
    """Read canonical JSON; any other spelling of the same value is refused.

    Parameters
    ----------
    raw
        The bytes of the file.

    Returns
    -------
    Any
        The value: dict, list, str, bool, int or None.

    Raises
    ------
    BundleError
        ``not-json``, ``duplicate-key`` or ``not-canonical``.
    """
    _require_shallow(raw)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_no_real_number,
            parse_constant=_no_constant,
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError("not-json", f"the manifest is not JSON ({error}); fetch it again") from error
    if dump(value) != raw:
        raise BundleError(
            "not-canonical",
            "the manifest is not written canonically (ASCII, sorted keys, no blanks, no newline at the end); "
            "use the file as the exporter wrote it",
        )
    return value


def _require_shallow(raw: bytes) -> None:
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise BundleError("not-json", f"the manifest is nested deeper than {MAX_DEPTH} levels; none is")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise BundleError(
                "duplicate-key", f"the manifest says {name[:60]!r} twice in one object; each key stands once"
            )
        result[name] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > len(str(_LARGEST)) + 1:
        raise BundleError("not-canonical", f"the manifest holds an integer of {len(digits)} digits; the limit is 2**53")
    return int(digits)


def _no_real_number(digits: str) -> NoReturn:
    raise BundleError("not-canonical", f"the manifest holds {digits[:40]!r}; real numbers are written as strings")


def _no_constant(name: str) -> NoReturn:
    raise BundleError("not-json", f"the manifest holds {name}, which is not JSON; real numbers are written as strings")


def _require_plain(value: object, depth: int) -> None:
    if depth < 0:
        raise BundleError("not-canonical", f"the value is nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, (str, bool)) or (isinstance(value, int) and abs(value) < _LARGEST):
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _require_plain(item, depth - 1)
    elif isinstance(value, dict) and all(isinstance(key, str) and key.isascii() for key in value):
        for item in value.values():
            _require_plain(item, depth - 1)
    else:
        raise BundleError(
            "not-canonical",
            f"{str(value)[:60]!r} ({type(value).__name__}) has no canonical form: write real numbers as strings, "
            "integers below 2**53, keys in ASCII",
        )
