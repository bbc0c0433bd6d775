"""Files that appear whole or not at all: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import filecmp
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_ABANDONED = 3600.0
"""Seconds after which a half-written file is nobody's any more."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without symbolic links answer."""


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
    remove_abandoned(path.parent, path.name)
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
        if path.is_dir() or path.is_symlink():  # a file in the way is somebody's
            remove(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def point_to(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (a folder beside it), in one step.

    On a file system without links (FAT, exFAT, many network shares) it becomes a copy of the folder.

    Raises
    ------
    OSError
        When the folder cannot be written; the old link is untouched then.
    """
    temporary = _temporary(link)
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        files = sorted((link.parent / target).iterdir())
        if not _holds(link, files):
            write_folder(link, {file.name: file.read_bytes() for file in files})
        return
    if link.is_dir() and not link.is_symlink():  # a copy, from when the folder lay elsewhere
        shutil.rmtree(link)
    temporary.replace(link)


def is_same(link: Path, folder: Path) -> bool:
    """Return whether ``link`` leads to a folder, or is the copy that :func:`point_to` makes without links."""
    if not (link.exists() and folder.exists()):
        return False
    return link.resolve() == folder.resolve() or _holds(link, sorted(folder.iterdir()))


def has_links(folder: Path) -> bool:
    """Return whether symbolic links can be made in a folder.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    probe = _temporary(folder / "link")
    try:
        probe.symlink_to("nothing")
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    probe.unlink()
    return True


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder; what is not there is no fault.

    Raises
    ------
    OSError
        When it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half-written in a folder in which nobody else works now.

    Parameters
    ----------
    folder
        The folder; it need not exist.
    name
        Final name of what was being written; None takes everything.

    Raises
    ------
    OSError
        When something cannot be deleted.
    """
    for left in folder.glob(_half_written(name)):
        remove(left)


def remove_abandoned(folder: Path, name: str) -> None:
    """Remove what was half-written under a name so long ago that nobody writes it any more.

    Parameters
    ----------
    folder
        A folder in which others may be writing now.
    name
        Final name of a file or folder.
    """
    for left in folder.glob(_half_written(name)):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.lstat().st_mtime > _ABANDONED:
                remove(left)


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


def _half_written(name: str | None) -> str:
    """Return the pattern of :func:`_temporary`."""
    return f".{'*' if name is None else glob.escape(name)}.*.tmp"


def _holds(folder: Path, files: Sequence[Path]) -> bool:
    """Return whether a folder holds copies of these files and nothing else."""
    if not folder.is_dir() or sorted(file.name for file in folder.iterdir()) != [file.name for file in files]:
        return False
    return all(filecmp.cmp(file, folder / file.name, shallow=False) for file in files)


def _write_synced(path: Path, content: bytes) -> None:
    with naming(path), path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network shares cannot force a folder to disk
            raise
    finally:
        os.close(descriptor)
