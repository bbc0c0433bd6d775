"""Numbers, values and tables as text, for the console and for Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from fedclip_edge.terminal import printable

_MARKS = re.compile(r"[\\`*|]|(?<=\])\(")  # what Markdown reads as more than a letter, beside tags


def told(value: object, most: int = 80) -> str:
    """Return a value from elsewhere in a few printable words, whatever it is."""
    if isinstance(value, str):
        return printable(value if len(value) <= most else f"{value[: most - 3]}...")
    if type(value) is int and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return str(value) if value is None or type(value) in (bool, int, float) else f"a {told(type(value).__name__)}"


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown, the first column to the left, the others to the right."""
    head, *body = [[plain_markdown(cell) for cell in row] for row in table]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def plain_markdown(text: str) -> str:
    """Return a text on one line in which Markdown finds letters only: no tag, code, link, emphasis or end of a cell."""
    return _MARKS.sub(r"\\\g<0>", html.escape(printable(text), quote=False))


def size(count: float) -> str:
    """Return a number of bytes with a unit (kB = 1000 bytes): ``74 bytes``, ``133 kB``, ``2.13 MB``, ``1.27 GB``."""
    if count < 1e3:
        return counted(round(count), "byte")
    if count >= 1e8:
        return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def counted(number: int, noun: str) -> str:
    """Return a number and a noun, which has an s unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence(words: str) -> str:
    """Return words as a sentence: with a capital letter in front, and a full stop."""
    return f"{words[0].upper()}{words[1:].removesuffix('.')}."


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
