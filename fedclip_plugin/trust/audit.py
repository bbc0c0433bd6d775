"""Verify an egress log, and say what left in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedclip_edge.safe_files import open_plain
from fedclip_edge.terminal import align, printable
from fedclip_plugin.errors import PolicyError
from fedclip_plugin.text import counted, size
from fedclip_plugin.trust.egress_log import CLOSE, MESSAGE, OPEN, RECIPE, REFUSED, read_log
from fedclip_plugin.trust.hash_chain import Finding
from fedclip_plugin.trust.left_before import LeftBefore

_HASH_DIGITS = 12
"""Fewest digits of a hash that are taken for it."""

UNSEEN = (
    "A chain holds no secret: whoever can write the file can write another one from any line on, and ends it in "
    "order, or can cut it behind the closing line of an earlier start. That shows by a last hash alone that was kept "
    "elsewhere before: a silo's log has it, and the console of a job on one machine; give it with --last-hash."
)
"""What the chain by itself does not find."""


@dataclass
class Start:
    """One start of a silo: from its first line to the next start.

    Attributes
    ----------
    opening
        Its first line.
    messages, refused
        What left, and what the policy kept back.
    closed
        Whether it has a closing line, or ends with a last hash that was given.
    """

    opening: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False


@dataclass(frozen=True)
class Audit:
    """What an egress log tells.

    Attributes
    ----------
    starts
        The starts of the silo, in order.
    findings
        All that keeps the log from being verified, each one sentence; empty where it is.
    lines, last_hash
        How many lines there are, and the hash of the last one.
    given
        The last hashes that were given, each of which is in a verified log.
    """

    starts: Sequence[Start]
    findings: Sequence[Finding]
    lines: int
    last_hash: str
    given: Sequence[str] = ()

    @property
    def verified(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_text(self) -> str:
        """Return what left by run, and in all by kind, and then what was found."""
        told = [line for number, start in enumerate(self.starts, 1) for line in _start_lines(number, start)]
        messages = [message for start in self.starts for message in start.messages]
        table = align([_COLUMNS, *_rows(messages)]) if messages else "no message left"
        beside = f"it has every hash that was given: {', '.join(self.given)}" if self.given else UNSEEN
        verdict = [f"verified: {counted(self.lines, 'line')}, last hash {self.last_hash}", beside]
        if self.findings:
            count = counted(len(self.findings), "finding")
            verdict = [f"NOT VERIFIED: {count}", *(f"  {finding.text}" for finding in self.findings)]
        return "\n".join([*told, "", table, "", *verdict])


def audit(path: Path, given: Sequence[str] = ()) -> Audit:
    """Verify an egress log.

    Parameters
    ----------
    given
        Last hashes of the log that were told before: each must be the hash of a line of it, or begin one. A start that
        ends with such a line needs no closing line.

    Raises
    ------
    PolicyError
        The file cannot be read, is empty, or what was given is no hash.
    """
    for own in given:
        if len(own) < _HASH_DIGITS or not set(own) <= set("0123456789abcdef"):
            raise PolicyError(
                f"the last hash {printable(own)!r} must be {_HASH_DIGITS} or more of the hexadecimal digits that a "
                "silo's log or console told"
            )
    try:
        with open_plain(path) as stream:
            entries, findings = read_log(stream)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(f"{path} cannot be read: {reason}; give a silo's egress log") from error
    if not entries and not findings:
        raise PolicyError(f"{path} is empty; give a silo's egress log")
    known = [entry["hash"] for entry in entries]
    starts, open_ends = _starts(entries, given)
    lost = [
        Finding(len(known), "cut", f"no line has the hash {each}: the end was cut, or lines were replaced")
        for each in given
        if not any(own.startswith(each) for own in known)
    ]
    return Audit(starts, [*findings, *open_ends, *lost], len(known), known[-1] if known else "", given)


def _starts(entries: Sequence[dict[str, Any]], given: Sequence[str]) -> tuple[list[Start], list[Finding]]:
    """Return the starts, and which of them may have lost their end, or have other totals than they say."""
    starts: list[Start] = []
    findings: list[Finding] = []
    last = dict[int, dict[str, Any]]()
    recipe = ""
    for entry in entries:
        recipe = entry["recipe"] if entry["entry"] in (OPEN, RECIPE) else recipe
        if entry["entry"] == OPEN:
            starts.append(Start(entry))
        if not starts:
            continue
        start, last[len(starts) - 1] = starts[-1], entry
        if entry["entry"] == MESSAGE:
            start.messages.append({**entry, "recipe": recipe})
        elif entry["entry"] == REFUSED:
            start.refused.append(entry)
        elif entry["entry"] == CLOSE:
            start.closed = True
            total = len(start.messages), sum(message["bytes"] for message in start.messages)
            if total != (entry["messages"], entry["bytes"]):
                text = f"number {entry['number']} has other totals than the messages before it"
                findings.append(Finding(entry["number"], "edited", text))
    for index, start in enumerate(starts):
        ends_with = last[index]["hash"]
        start.closed = start.closed or any(ends_with.startswith(each) for each in given)
        if not start.closed:
            text = (
                f"start {index + 1} has no closing line: its end was cut, or the silo was stopped or is still at work; "
                f"if --last-hash {ends_with[:16]} is what it told last, nothing is missing"
            )
            findings.append(Finding(last[index]["number"], "unclosed", text))
    return starts, findings


_COLUMNS = ("kind", "messages", "bytes", "rounds", "largest norm", "epsilon", "delta")


def _rows(messages: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    kinds = list(dict.fromkeys(message["kind"] for message in messages))
    rows = [_row(kind, [message for message in messages if message["kind"] == kind]) for kind in kinds]
    return [*rows, _row("in all", messages)]


def _row(name: str, messages: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    rounds = {message["round"] for message in messages} - {None}
    norms = [message["norm"] for message in messages if message["norm"] is not None]
    left = LeftBefore()
    for message in messages:
        left.recipe = message["recipe"]
        left.add_entry(message)
    return (
        printable(name),
        f"{len(messages):,}",
        f"{sum(message['bytes'] for message in messages):,}",
        " to ".join(map(str, dict.fromkeys((min(rounds), max(rounds))))) if rounds else "-",
        f"{max(norms):.4g}" if norms else "-",
        *(f"{part:.4g}" if left.accounts else "-" for part in left.spent),
    )


def _start_lines(number: int, start: Start) -> list[str]:
    told = start.opening
    policy = f"silo policy {told['policy'][:16]}" if told["policy"] else "no silo policy"
    sent = sum(message["bytes"] for message in start.messages)
    first = (
        f"start {number}, {told.get('time')}: run {told['run']}, silo {told['silo']}, recipe {told['recipe'][:16]}, "
        f"{policy}: {counted(len(start.messages), 'message')}, {size(sent)}"
    )
    kept = [f"  kept back: {each['what']} ({', '.join(map(str, each['policy_keys']))})" for each in start.refused]
    return [printable(line) for line in (first, *kept)]
