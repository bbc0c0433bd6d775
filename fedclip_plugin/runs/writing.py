"""What a disk says, as a sentence with the place and the way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedclip_plugin.errors import RunFolderError

_FULL = "free some space there"
_GONE = "it was removed or renamed meanwhile: leave it alone while it is in use"
_CLOSED = "make it writable, or name another place"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ENOENT: _GONE,
    errno.ESTALE: _GONE,
}


@contextmanager
def writing(what: Path | str, kind: type[Exception] = RunFolderError) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an error that names the place and says what to do.

    Parameters
    ----------
    what
        The file or folder that is written.
    kind
        The error to raise.

    Raises
    ------
    RunFolderError
        Or an error of `kind`, when the block raises an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what} cannot be written: {reason(error)}; {_REMEDIES.get(error.errno or 0, _CLOSED)}") from error


def reason(error: OSError) -> str:
    """Return why the system refused, without number and path."""
    return error.strerror or str(error)


def require_place(folder: Path, what: str, option: str) -> None:
    """See that a folder is there or can be made; nothing is written.

    Parameters
    ----------
    folder
        The folder.
    what
        What it is, such as ``run folder``.
    option
        What names another one, such as ``--run``.

    Raises
    ------
    RunFolderError
        When a file or a dangling link has the name, or it cannot be written.
    """
    instead = f"name another with {option}"
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise RunFolderError(
                f"{what} {folder} cannot be made: {place} is a link to {place.readlink()}, which does not exist; "
                f"make that folder, or {instead}"
            )
        if not os.path.lexists(place):
            continue
        if not place.is_dir():
            raise RunFolderError(f"{what} {folder} cannot be made: {place} is a file; {instead}")
        if not os.access(place, os.W_OK | os.X_OK):
            raise RunFolderError(f"{what} {folder} cannot be written: {place} is read-only for you; {instead}")
        return
