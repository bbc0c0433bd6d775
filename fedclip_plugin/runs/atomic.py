"""Files that appear whole or not at all: temporary name, fsync, rename."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_ABANDONED = 3600.0
"""Seconds after which a half-written file is nobody's any more."""


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` under ``path`` so that a reader sees the old file or the new one, never half of it.

    Parameters
    ----------
    path
        Final name; its folder exists.
    content
        All bytes of the file.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the old file is untouched then.
    """
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the disk name what was written: Python names a file that cannot be opened, not one that is full.

    Raises
    ------
    OSError
        That of the block.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content appears under ``path`` when it is whole; for files too large to hold in memory.

    What a killed process left of a file of this name is removed first.

    Parameters
    ----------
    path
        Final name; its folder exists.

    Raises
    ------
    OSError
        As :func:`write_file`.
    """
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        _remove_abandoned(left)
    temporary = _temporary(path)
    try:
        with naming(path), temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write several files as one folder that appears in one step; a folder of that name is replaced.

    Parameters
    ----------
    path
        Final name of the folder; its parent exists.
    files
        File name to content.

    Raises
    ------
    OSError
        When something cannot be written; nothing stands under the final name then, unless it stood before.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        for name, content in files.items():
            _write_synced(temporary / name, content)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def point_to(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (a name in the same folder), in one step.

    Raises
    ------
    OSError
        When the folder cannot be written; the old link is untouched then.
    """
    temporary = _temporary(link)
    temporary.symlink_to(target)
    temporary.replace(link)


def append_line(path: Path, line: str) -> None:
    """Append one line and force it to disk.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    with naming(path), path.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _temporary(path: Path) -> Path:
    """Return a name that no other process uses, on this host or on another that shares the disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def _remove_abandoned(temporary: Path) -> None:
    with suppress(FileNotFoundError):  # another process was faster
        if time.time() - temporary.stat().st_mtime > _ABANDONED:
            temporary.unlink()


def _write_synced(path: Path, content: bytes) -> None:
    with naming(path), path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
