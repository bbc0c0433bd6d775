"""Names of class and silo folders: which cannot be used, and which only look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import DataError

_BREAKS = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's categories of control characters and of line and paragraph separators."""


def name_fault(name: str) -> str | None:
    """Return what keeps a folder's name from being a class's or a silo's, None when nothing does.

    In a name as the operating system gives it, a byte that is not UTF-8 is a surrogate.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return (
            "is not valid UTF-8 (zip files from Windows often hold names in Latin-1 or another encoding); rename "
            "the folder, or all below it with: convmv -r -f latin1 -t utf8 --notest FOLDER"
        )
    if any(unicodedata.category(letter) in _BREAKS for letter in name):
        return "has a line break or a control character in it; rename the folder"
    return None


def require_names(names: Iterable[str], root: Path) -> None:
    """Refuse names of folders in `root` that have a `name_fault`, or differ only in how Unicode spells them."""
    names = list(names)
    for name in names:
        if fault := name_fault(name):
            raise DataError(f"the name of folder {printable(str(root / name))} {fault}")
    for group in twins(names):
        raise DataError(f"{printable(str(root))}: {twin_fault(group)}")


def twins(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return groups of different names that are one name in Unicode's composed form (NFC)."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def twin_fault(group: Sequence[str], what: str = "folders", remedy: str = "put their images into one of them") -> str:
    """Say what is wrong with the names, of `what`, of one of the groups of `twins`, and what to do."""
    spelt = " and ".join(ascii(name) for name in group)
    return (
        f"the {what} {spelt} read the same, {group[0]!r}, and differ only in how Unicode spells their letters (a "
        f"copy from macOS does that); {remedy}"
    )
