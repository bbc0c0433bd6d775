"""The kinds of values that recipe keys take: strict numbers, names, paths; no silent conversions.

The one conversion is a mercy: YAML 1.1 reads ``5e-5`` (no dot) as text, which every user meets with a
learning rate. `Real` takes such text as the number it plainly is.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fedclip_edge.sample_range import RANGE_RULE, is_range
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.recipe.prompts import require_template

MOST = 2**32 - 1
"""Largest whole number: of a seed, and more than there is of anything else."""

MOST_EPSILON = 50.0
"""Of differential privacy; a larger one, odds of e^50, promises nothing."""

LEAST_NOISE, MOST_NOISE = 0.3, 10_000.0
"""Noise multipliers: below, a step hides nothing; above, it tells nothing."""

_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\}?)")


def _exponent_text(value: Any) -> Any:
    """Turn ``"5e-5"`` into ``5e-05``; hand anything else on."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def expand_user(text: str) -> str:
    """Replace ``~`` and environment variables in a path.

    Returns
    -------
    str
        The path with ``~``, ``$NAME`` and ``${NAME}`` replaced; a relative path stays relative.

    Raises
    ------
    ValueError
        If a variable is not set, there is no such user, or the text is empty or has a NUL character.
    """
    if not text.strip():
        raise ValueError("must not be empty; leave the key out to get its default")
    if "\0" in text:
        raise ValueError("must not hold a NUL character, which no path can; write the path without it")
    expanded = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 (keeps "{silo}", never raises)
    unset = _VARIABLE.search(expanded)
    if unset:
        raise ValueError(f"environment variable {unset.group()} is not set; export it or write the path out")
    if expanded.startswith("~"):
        user = expanded.partition("/")[0]
        raise ValueError(f"there is no user {user} on this machine; write the path out, from / on")
    return expanded


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be a path; put it in quotes")
    return Path(expand_user(str(value)))


def folder_name(name: str) -> str:
    """Return a name that can be a folder's; a ValueError says what is wrong with another."""
    if not name.strip() or name in {".", ".."} or "/" in name or "\0" in name:
        raise ValueError("must be the name of one folder, without '/'; paths go into fedclip_args.data_root")
    return name


def _ordered(value: Any) -> Any:
    """Refuse a set, whose order is another in each process."""
    if isinstance(value, set | frozenset):
        raise ValueError("is a set, which has no order; give a list")
    return value


USUAL_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Between zero-shot CLIP, 0, and what was trained, 1."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"names {listed(map(repr, twice))} more than once; name each once")
    return names


def _method(name: str) -> str:
    """Refuse a name outside the table the way pydantic refuses a value outside a ``Literal``."""
    if name not in METHODS:
        expected = " or ".join(map(repr, METHODS))
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


def _backbone(name: str) -> str:
    """Take ``clip-tiny``, a hub name (always ``owner/name``) or a path (always with a ``/``)."""
    if "/" in name or name.startswith(("~", "$")):
        return expand_user(name)
    if name != "clip-tiny":
        expected = "'clip-tiny', a hub name (owner/name), or a folder (./name)"
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


def _no_ids(value: Any) -> Any:
    """Take ``null`` and ``[]`` for FedML's ``"[]"``: all three leave the list to FedML."""
    return "[]" if value is None or value == [] else value


def _range(value: Any) -> tuple[float, float]:
    ends = [_exponent_text(end) for end in value] if isinstance(value, list | tuple) else value
    if not is_range(ends):
        raise ValueError(f"must be {RANGE_RULE}")
    return float(ends[0]), float(ends[1])


def _shares(value: Any) -> Any:
    """Take ``true`` for the usual grid and ``false`` for none; return a grid rising, each share once."""
    if value is None or isinstance(value, bool):
        return USUAL_SHARES if value else None
    shares = [_exponent_text(share) for share in value] if isinstance(value, list | tuple) else []
    if not shares or not all(type(share) in (int, float) and 0 < share <= 1 for share in shares):
        raise ValueError("must be true, false, or a list of numbers above 0 and up to 1")
    return tuple(sorted({float(share) for share in shares}))


_NUMBER = BeforeValidator(_exponent_text)
"""Stands behind a number's bounds: in front of them, it would keep them out of the JSON schema."""

Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True, le=MOST)]
Count = Annotated[Whole, Field(ge=1)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False), _NUMBER]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0), _NUMBER]
FromOne = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1), _NUMBER]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0), _NUMBER]
Epsilon = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=MOST_EPSILON), _NUMBER]
NoiseMultiplier = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=LEAST_NOISE, le=MOST_NOISE), _NUMBER]
Delta = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1e-12, le=0.1), _NUMBER]
Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, lt=1), _NUMBER]
Shares = Annotated[tuple[float, ...] | None, BeforeValidator(_shares, json_schema_input_type=bool | list[float] | None)]
UpToThree = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=3), _NUMBER]
Range = Annotated[tuple[float, float], BeforeValidator(_range)]
Text = Annotated[str, Field(strict=True, min_length=1)]
FolderName = Annotated[
    str, Field(strict=True, json_schema_extra={"format": "folder-name"}), AfterValidator(folder_name)
]
FolderNames = Annotated[
    tuple[FolderName, ...], Field(min_length=1), BeforeValidator(_ordered), AfterValidator(_distinct)
]
Names = Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_ordered), AfterValidator(_distinct)]
UserPath = Annotated[Path, BeforeValidator(_path)]
PromptTemplate = Annotated[
    str, Field(strict=True, json_schema_extra={"pattern": r"^[^{}]*\{\}[^{}]*$"}), AfterValidator(require_template)
]
MethodName = Annotated[
    str, Field(strict=True, json_schema_extra=lambda schema: schema.update(enum=list(METHODS))), AfterValidator(_method)
]
ClientIds = Annotated[Literal["[]"], BeforeValidator(_no_ids)]
BackboneName = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_backbone)]


class Section(BaseModel):
    """Base of a recipe's sections: read-only, and only the keys that are declared."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        protected_namespaces=(),
        defer_build=True,  # a command that checks no recipe waits for no validator
    )
