"""Letters that the figures' own font has not: fonts of the machine that have them, and what none has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text

PLAIN = "DejaVu Sans"
"""Comes with matplotlib, so that figures look alike on every machine."""

_NOT_ASKED = (PLAIN, "Last Resort")
"""The style's own, and matplotlib's, which has a box for every letter there is."""


def missing_letters(figure: Figure) -> frozenset[str]:
    """Return the letters of a figure's texts that none of their fonts has; they are drawn as boxes."""
    return frozenset(
        letter
        for text in figure.findobj(Text)
        if isinstance(text, Text)
        for letter in set(text.get_text())
        if not letter.isspace() and letter.isprintable() and not _shown(letter, text)
    )


def families_with(letters: Iterable[str]) -> list[str]:
    """Return fonts of this machine, as few as are found to have all of ``letters`` that any has; the best comes first.

    matplotlib keeps a list of fonts, which knows nothing of one that was installed since: the machine is asked again.
    """
    for path in set(font_manager.findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        _add(path)
    left, chosen = {ord(letter) for letter in letters}, list[str]()
    plain = [
        entry for entry in fontManager.ttflist if entry.style == "normal" and not entry.name.startswith(_NOT_ASKED)
    ]
    found = {entry.name: left & _letters_of(entry.fname) for entry in sorted(plain, key=lambda entry: entry.name)}
    while best := max(found, key=lambda name: len(found[name] & left), default=None):
        if not found[best] & left:
            break
        left -= found.pop(best)
        chosen.append(best)
    return chosen


def _shown(letter: str, text: Text) -> bool:
    families = text.get_fontfamily()
    return any(ord(letter) in _letters_of(_file(family)) for family in families)


@cache
def _file(family: str) -> str:
    return str(font_manager.findfont(FontProperties(family=family)))


@cache
def _letters_of(file: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):  # removed since it was listed, or no font: it has no letters
        return frozenset()


def _add(path: str) -> None:
    try:
        fontManager.addfont(path)
    except (OSError, RuntimeError, KeyError):  # a file of another kind, such as one of bitmaps: not for figures
        return
