"""One fault of a recipe as one line: what was given, the rule, the fix, and what was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.text import counted

ABSENT: Any = object()
"""Stands for the value of a key that is not there."""

_LINE, _PLACE = 1200, 200
"""Most characters of a fault, and of where it is."""

_MOST_FAULTS = 100
"""Most faults that are listed one by one."""

_RULES: dict[str, str] = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list; write [a, b]",
    "too_short": "must not be an empty list; leave the key out to get its default",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong at one place of a recipe.

    Attributes
    ----------
    where
        ``section.key``, or ``line 3``, or an override as it was given.
    rule
        The rule that was broken and, after a semicolon, how to mend it.
    value
        What was given; `ABSENT` where nothing was.
    meant
        The likely right spelling, or None.
    """

    where: str
    rule: str
    value: Any = ABSENT
    meant: str | None = None

    def line(self) -> str:
        """Return the fault as one line of text, short and printable whatever the recipe holds."""
        given = "" if self.value is ABSENT else f" = {show(self.value)}"
        hint = f" (did you mean {self.meant!r}?)" if self.meant else ""
        return brief(f"{brief(self.where, _PLACE)}{given}: {self.rule}{hint}", _LINE)


Values = Mapping[str, Any]
"""``section.key`` to its value, for every key that is valid by itself; absent sections have none."""

Rule = Callable[[Values], Iterator[Fault]]
"""A rule between keys: it looks only at values valid by themselves, so that all faults are told at once."""


def show(value: Any, width: int = 60) -> str:
    """Write a value as YAML would, on one printable line of that width; what does not fit is not written out first."""
    text, start = "", value[: width + 1] if isinstance(value, str) else value
    for part in json.JSONEncoder(default=str, ensure_ascii=False, allow_nan=True).iterencode(start):
        text += part
        if len(text) > width:
            break
    return brief(text, width)


def brief(text: str, width: int = _PLACE) -> str:
    """Return a text on one line, printable, and cut to a width."""
    shown = printable(text[: width + 1])
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names with commas between them, and how many more there are; ``none`` where there are none."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(brief(name, 60) for name in every[:most]) + more or "none"


def closest(word: Any, candidates: Iterable[str]) -> str | None:
    """Return the right spelling that a mistyped word probably stands for, whatever its case, ``-`` and ``_``."""
    from difflib import get_close_matches  # where nothing is wrong nobody needs it

    plain = {_plain(candidate): candidate for candidate in candidates}
    if not isinstance(word, str):
        return None
    found = get_close_matches(_plain(word), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(word: Any, candidates: Iterable[str]) -> str:
    """Return the hint that goes into a message behind a mistyped word; empty where nothing is close."""
    close = closest(word, candidates)
    return f" (did you mean {close!r}?)" if close else ""


def from_pydantic(where: str, value: Any, errors: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Turn pydantic's complaints about one value into faults.

    Returns
    -------
    list of Fault
        One per complaint; an index is added where a list's element is at fault.
    """
    # pydantic calls a list too short when all its elements were refused: that is no fault of its own
    own = [error for error in errors if error["type"] != "too_short" or len(errors) == 1]
    return [_fault(where, value, error) for error in own]


def recipe_error(source: Path | str, faults: Sequence[Fault]) -> RecipeError:
    """Make the one error that lists every fault.

    Returns
    -------
    RecipeError
        First line ``RECIPE: 2 errors in <source>``, then a line per fault.
    """
    lines = list(dict.fromkeys(fault.line() for fault in faults))
    more = [f"and {len(lines) - _MOST_FAULTS} more"] if len(lines) > _MOST_FAULTS else []
    told = [f"  {line}" for line in (*lines[:_MOST_FAULTS], *more)]
    return RecipeError("\n".join([f"RECIPE: {counted(len(lines), 'error')} in {printable(str(source))}", *told]))


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")


def _fault(where: str, value: Any, error: Mapping[str, Any]) -> Fault:
    context = dict(error.get("ctx", {}))
    index = "".join(f"[{part}]" for part in error["loc"] if isinstance(part, int))
    given = error["input"] if index else value
    rule = _RULES.get(error["type"], str(error["msg"]))
    if error["type"] != "literal_error":
        return Fault(where + index, rule.format(**context), given)
    expected = str(context["expected"])
    meant = closest(given, re.findall(r"'([^']+)'", expected))
    return Fault(where + index, rule.format(expected=expected.replace("False", "false")), given, meant)
