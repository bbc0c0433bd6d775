"""Files that a silo's operator keeps on the machine: where they are looked for, and that nobody else changes them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FedClipError


class Places(NamedTuple):
    """Where something of an operator's is looked for.

    Attributes
    ----------
    what
        What it is, such as ``silo policy``.
    variable
        The environment variable that names it.
    machine
        The machine's own: where it is there, no variable can put another in its place.
    user
        Where a user's own is looked for, when there is no other; it may begin with ``~``.
    error
        What a place that cannot be used is raised as.
    """

    what: str
    variable: str
    machine: Path
    user: Path
    error: type[FedClipError]

    def find(self, environment: Mapping[str, str]) -> Path | None:
        """Return what the variable names, or without it the machine's own place, or the user's; None without any.

        An error of :attr:`error` where the variable is empty, no full path, or names something else where the machine
        has its own; or where a place cannot be looked at.
        """
        named = environment.get(self.variable)
        if named is None:
            return next((place for place in (self.machine, self.users_own) if self._is_there(place)), None)
        if not named.strip() or not Path(named).is_absolute():
            raise self.error(
                f"{self.variable} is {named!r}, and must be the full path of a {self.what}: give one, from / on, or "
                "unset it"
            )
        path = Path(named)
        if path != self.machine and self._is_there(self.machine):
            raise self.error(
                f"{self.variable} names {printable(named)}, and this machine has {self.machine}, which no variable "
                f"replaces: unset it, or let whoever answers for the machine remove that"
            )
        return path

    @property
    def users_own(self) -> Path:
        """The user's place, where there is a home."""
        return Path(os.path.expanduser(self.user))  # noqa: PTH111 (never raises, where there is no home either)

    def told(self) -> str:
        """Return the places as text."""
        return f"{self.variable}, {self.machine}, {self.user}"

    def _is_there(self, place: Path) -> bool:
        """Return whether something has this name; what cannot be told is an error and no absence."""
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self.error(
                f"whether there is a {self.what} at {place} cannot be told ({error.strerror}): let this user look there"
            ) from error
        return True


def require_own(path: Path) -> None:
    """Refuse a file that others can change, or put another in the place of; a ValueError says why and the remedy."""
    for place in sorted(_on_the_way(path)):
        found, user = place.stat(), os.geteuid()
        for owner in (place.lstat().st_uid, found.st_uid):
            if owner not in (0, user):
                raise ValueError(f"{place} belongs to user {owner}, and must belong to root or to user {user} (chown)")
        kept = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX  # only owners rename or remove in it
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not kept:
            who = "every user" if found.st_mode & stat.S_IWOTH else f"group {found.st_gid}"
            what = "and so replace what it leads to" if stat.S_ISDIR(found.st_mode) else "and so change it"
            raise ValueError(f"{who} can write {place}, {what}; take that right away (chmod go-w)")


def require_secret(path: Path) -> None:
    """Refuse a file as :func:`require_own`, and one that others can read."""
    require_own(path)
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ValueError(f"others can read {path}; take that right away (chmod go-rwx), and make another key")


def _on_the_way(path: Path) -> set[Path]:
    """Return all that leads to a file, and the file: folders, and links with what they name."""
    places = set[Path]()
    pending = [path.absolute()]
    while pending:
        named = pending.pop()
        for place in {named, *named.parents} - places:
            places.add(place)
            if place.is_symlink():
                pending.append(place.parent / place.readlink())
    return places
