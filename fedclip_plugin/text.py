"""Numbers, names and tables as text, for the console and for Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_MARKS = re.compile(r"[\\`*|]|(?<=\])\(")  # what Markdown reads as more than a letter, beside tags


def printable(text: str) -> str:
    r"""Return a name from elsewhere on one line, with everything escaped that a terminal or a log would obey.

    Control characters, line breaks, direction marks and bytes that were not UTF-8 (surrogates) become escapes such as
    ``\x1b``; letters of every script stay as they are.
    """
    return _escape(text, "")


def harmless(text: str) -> str:
    """Return lines of text with everything escaped as :func:`printable` does, but for line breaks and tabs."""
    return _escape(text, "\n\t")


def message(text: str) -> str:
    """Return one message, harmless; its lines after the first are indented, so that none passes for another message.

    A line break in a name, or in what a library says, can then forge no line of a log.
    """
    first, *others = harmless(text).split("\n")
    return "\n".join([first, *(f"  {line}" if line[:2].strip() else line for line in others)])


def _escape(text: str, kept: str) -> str:
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)


def told(value: object, most: int = 80) -> str:
    """Return a value from elsewhere in a few printable words, whatever it is."""
    if isinstance(value, str):
        return printable(value if len(value) <= most else f"{value[: most - 3]}...")
    if type(value) is int and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return str(value) if value is None or type(value) in (bool, int, float) else f"a {told(type(value).__name__)}"


def align(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text: first column to the left, the others to the right, a rule under the head."""
    table = [[printable(cell) for cell in row] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown, aligned as :func:`align` does."""
    head, *body = [[plain_markdown(cell) for cell in row] for row in table]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def plain_markdown(text: str) -> str:
    """Return a text on one line in which Markdown finds letters only: no tag, code, link, emphasis or end of a cell."""
    return _MARKS.sub(r"\\\g<0>", html.escape(printable(text), quote=False))


def size(count: float) -> str:
    """Return a number of bytes with a unit (kB = 1000 bytes)."""
    if count >= 1e8:
        return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def percent(fraction: float | None) -> str:
    """Return a fraction in percent with one decimal, ``-`` for None."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: ``0.034 s``, ``12.3 s``, ``4 min``, ``1.5 h``."""
    if seconds < 10:
        return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
