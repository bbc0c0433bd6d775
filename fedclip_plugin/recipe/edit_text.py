"""Set keys in a recipe's text and keep its comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_WIDTH = 100


def set_in_text(text: str, keys: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a recipe's text with keys set to other values; what is not set stays as it is, comments included.

    Parameters
    ----------
    text
        YAML with a section a block, as the recipes that come along have it: ``section:`` at the margin, each key on a
        line of its own, two spaces in.
    keys
        Section to keys and their values; None takes a key out.
    """
    lines = text.splitlines()
    for section, values in keys.items():
        for key, value in values.items():
            lines = _set(lines, section, key, value)
    return "\n".join(lines) + "\n"


def _set(lines: Sequence[str], section: str, key: str, value: Any) -> list[str]:
    if f"{section}:" not in lines:
        lines = [*lines, "", f"{section}:"]
    start = end = lines.index(f"{section}:") + 1
    while end < len(lines) and lines[end].startswith("  "):
        end += 1
    block = list(lines[start:end])
    marks = (f"  {key}:", f"  # {key}:")  # a key that is commented out holds its place
    found = next((number for mark in marks for number, line in enumerate(block) if line.startswith(mark)), len(block))
    block[found : found + 1] = [] if value is None else _key_lines(key, value, "".join(block[found : found + 1]))
    return [*lines[:start], *block, *lines[end:]]


def _key_lines(key: str, value: Any, before: str) -> list[str]:
    """Return a key as lines, with the comment that its line had, in the same column where there is room for it."""
    flow = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=_WIDTH).strip()[1:-1]
    first, *others = f"  {key}: {flow}".split("\n")
    written = [first, *(f"    {line.strip()}" for line in others)]
    if before.startswith("  # "):  # commented out: the comment behind the key stays in its column
        before = "  " + before[4:].replace("#", "  #", 1)
    comment = re.search(r"\s(#.*)", before)
    if comment is None:
        return written
    if len(written) > 1 or len(written[0]) + len(comment[1]) > _WIDTH + 20:
        return [f"  {comment[1]}", *written]
    return [f"{written[0].ljust(comment.start(1) - 2)}  {comment[1]}"]
