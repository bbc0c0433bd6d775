"""What a disk says, as a sentence with the place and the way out."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from fedclip_edge.files import writing_to
from fedclip_plugin.errors import RunFolderError


def writing(what: Path | str) -> AbstractContextManager[None]:
    """Turn an ``OSError`` of the block into a RunFolderError that names the place and says what to do."""
    return writing_to(what, RunFolderError)


def require_place(folder: Path, what: str, option: str) -> None:
    """See that a folder is there or can be made; nothing is written.

    For messages, ``what`` is such as ``run folder``, and ``option`` names another one, such as ``--run``. A file or a
    dangling link of the name, and a place that cannot be written, are RunFolderErrors.
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
