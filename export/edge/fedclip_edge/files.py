"""Writing files and folders that appear whole or not at all, and stay."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fedclip_edge.safe_files import check_listed, open_regular


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written; the old file is untouched then.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            _sync(stream)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the final name, durably, when the block ends well.

    What has the name already is replaced. When the block raises, nothing is left.

    Raises
    ------
    OSError
        When the disk is full or the parent cannot be written.
    """
    temporary = temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        sync_folder(temporary)
        remove(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write small files into a folder from :func:`new_folder`, each forced to disk.

    Raises
    ------
    OSError
        When one cannot be written.
    """
    for name, content in files.items():
        with (folder / name).open("xb") as stream:
            stream.write(content)
            _sync(stream)


def copy_listed(source: Path, target: Path, size: int, sha256: str) -> None:
    """Copy a large regular file, forced to disk, and see that what was copied is as listed.

    Raises
    ------
    BundleError
        ``missing-file``, ``not-regular``, ``size`` or ``hash``.
    OSError
        When the copy cannot be written.
    """
    with open_regular(source) as stream, target.open("xb") as copy:
        check_listed(stream, source, size, sha256, copy)
        _sync(copy)


def protect(folder: Path) -> None:
    """Let nobody write to the files of a folder, where that does not keep them from being deleted, as on Windows.

    Raises
    ------
    OSError
        When the file system refuses.
    """
    if os.name != "nt":
        for path in folder.iterdir():
            path.chmod(0o444)


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


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system knows how (Windows does not).

    Raises
    ------
    OSError
        When the disk refuses.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())
