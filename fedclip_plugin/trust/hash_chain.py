"""Lines of JSON that each hold the hash of the line before: what is changed, taken out or moved afterwards shows.

A line's ``hash`` is the SHA-256 of its JSON without that key, with sorted keys and no spaces; ``previous`` is the hash
of the line before, 64 zeros in the first; ``number`` counts lines from 1. There is no secret in it: whoever can write
the file can make another chain from any line on. That shows only by a hash that was told elsewhere before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BEGINNING = "0" * 64
"""What the first line names as the hash before it."""

MOST_LINE_BYTES = 2**24
"""A longer line is none of a log; one of a message with a thousand tensors has 100 kB."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a chain.

    Attributes
    ----------
    line
        Number of the line that it shows at, counted from 1 in the file as it is.
    kind
        ``edited``, ``reordered``, ``missing``, ``repeated``, ``replaced`` or ``malformed``.
    text
        The same in words.
    """

    line: int
    kind: str
    text: str


def seal(content: Mapping[str, Any], number: int, previous: str) -> tuple[str, str]:
    """Return a line, and its hash."""
    entry = {"number": number, **content, "previous": previous}
    own = _hash(entry)
    return json.dumps({**entry, "hash": own}, allow_nan=False), own


def check_chain(lines: Iterable[bytes]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return the entries that can be read, in the order in which they stand, and what is wrong."""
    entries: list[tuple[int, dict[str, Any]]] = []
    findings: list[Finding] = []
    for place, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            findings.append(Finding(place, "malformed", f"line {place} is no line of a log"))
            continue
        entries.append((place, entry))
        whole = {key: value for key, value in entry.items() if key != "hash"}
        if _hash(whole) != entry["hash"] or f"{json.dumps(entry)}\n".encode() != line:
            findings.append(Finding(place, "edited", f"line {place} was edited: its content has another hash"))
    findings += [*_order(entries), *_links(entries)]
    return [entry for _, entry in entries], sorted(findings, key=lambda finding: finding.line)


def _entry(line: bytes) -> dict[str, Any] | None:
    if len(line) > MOST_LINE_BYTES or not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    texts = ("previous", "hash", "entry")
    if type(entry) is not dict or type(entry.get("number")) is not int:
        return None
    return entry if all(type(entry.get(key)) is str for key in texts) else None


def _order(entries: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    """Tell which lines are missing, stand twice, or stand after one that comes later."""
    seen: dict[int, int] = {}
    highest = 0
    for place, entry in entries:
        number = entry["number"]
        if number in seen:
            yield Finding(place, "repeated", f"line {place} has the number of line {seen[number]}, {number}")
        elif number < highest:
            yield Finding(place, "reordered", f"line {place}, number {number}, stands after number {highest}")
        seen.setdefault(number, place)
        highest = max(highest, number)
    before = 0
    for number in sorted(seen):
        if number > before + 1:
            gone = str(before + 1) if number == before + 2 else f"{before + 1} to {number - 1}"
            what = f"number {gone} is" if number == before + 2 else f"numbers {gone} are"
            yield Finding(seen[number], "missing", f"before line {seen[number]}, {what} missing")
        before = max(before, number)


def _links(entries: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    """Tell of each line, by number, whether it names the hash of the one before it, where that is there."""
    by_number = {entry["number"]: (place, entry) for place, entry in reversed(entries)}
    for number, (place, entry) in sorted(by_number.items()):
        if number == 1 and entry["previous"] != BEGINNING:
            yield Finding(place, "missing", f"line {place} is not the beginning of a log: it names a line before it")
        if number - 1 in by_number and by_number[number - 1][1]["hash"] != entry["previous"]:
            other = by_number[number - 1][0]
            yield Finding(place, "replaced", f"line {place} does not follow line {other}: one of them was replaced")


def _hash(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
