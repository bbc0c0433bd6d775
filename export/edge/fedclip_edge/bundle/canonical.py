"""How manifests and a device's records are written as JSON, always in the same bytes, and how they are read."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fedclip_edge.errors import BundleError


def dump(value: dict[str, Any]) -> bytes:
    """Return an object as JSON: ASCII, sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse(raw: bytes) -> dict[str, Any]:
    """Read one JSON object; refuses with ``not-json``, ``duplicate-key``, or ``schema`` when it is no object."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError("not-json", f"the manifest is not JSON ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise BundleError("schema", "the manifest is not a JSON object; use the file as the exporter wrote it")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise BundleError(
                "duplicate-key", f"the manifest says {name[:60]!r} twice in one object; each key stands once"
            )
        result[name] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
