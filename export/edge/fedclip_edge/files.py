"""Files and folders that appear whole or not at all, and stay: temporary name, fsync, rename."""

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

from fedclip_edge.safe_files import check_listed, open_regular

_ABANDONED = 3600.0
"""Seconds after which a half-written file is nobody's any more."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What file systems without symbolic links answer."""

_FULL = "free some space there"
_GONE = "it was removed or renamed meanwhile: leave it alone while it is in use"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ENOENT: _GONE,
    errno.ESTALE: _GONE,
}


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` under ``path`` so that a reader sees the old file or the new one, never half of it.

    The folder exists. On an ``OSError`` (a full disk) the old file is untouched.
    """
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the disk name what was written: Python names a file that cannot be opened, no full one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def writing_to(what: Path | str, kind: type[Exception]) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a `kind` of error that names the place and says what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "make it writable, or name another place")
        raise kind(f"{what} cannot be written: {error.strerror or error}; {remedy}") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content appears under ``path`` when it is whole; for files too large to hold in memory.

    What a killed process left of a file of this name is removed first; errors as :func:`write_file`.
    """
    remove_abandoned(path.parent, path.name)
    temporary = _temporary(path)
    try:
        with naming(path), temporary.open("wb") as stream:
            yield stream
            _sync(stream)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write small files as one folder that appears in one step; a folder of that name is replaced, a file refused."""
    if path.is_file() and not path.is_symlink():  # somebody's
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    with new_folder(path) as folder:
        fill(folder, files)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the final name, durably, when the block ends well.

    What has the name already is replaced. When the block raises, nothing is left.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        _sync_folder(temporary)
        remove(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write small files into a folder from :func:`new_folder`, each forced to disk."""
    for name, content in files.items():
        with naming(folder / name), (folder / name).open("xb") as stream:
            stream.write(content)
            _sync(stream)


def copy_listed(source: Path, target: Path, size: int, sha256: str) -> None:
    """Copy a large regular file, forced to disk, and see that what was copied is as listed.

    A BundleError is of ``missing-file``, ``not-regular``, ``size`` or ``hash``.
    """
    with open_regular(source) as stream, target.open("xb") as copy:
        check_listed(stream, source, size, sha256, copy)
        _sync(copy)


def protect(folder: Path) -> None:
    """Let nobody write to the files of a folder, where that does not keep them from being deleted, as on Windows."""
    if os.name != "nt":
        for path in folder.iterdir():
            path.chmod(0o444)


def point_to(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (a folder beside it), in one step; on an error the old link stays.

    On a file system without links (FAT, exFAT, many network shares) it becomes a copy of the folder.
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
    """Return whether symbolic links can be made in a folder."""
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
    """Delete a file, a link or a whole folder; what is not there is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half-written (of one final name, or all) where nobody else works now."""
    for left in folder.glob(_half_written(name)):
        remove(left)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what was half-written (of one final name, or all) so long ago that nobody writes it any more."""
    for left in folder.glob(_half_written(name)):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.lstat().st_mtime > _ABANDONED:
                remove(left)


def append_line(path: Path, line: str) -> None:
    """Append one line and force it to disk."""
    with naming(path), path.open("ab") as stream:
        stream.write(f"{line}\n".encode())
        _sync(stream)


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


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system knows how (Windows does not)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network shares cannot force a folder to disk
            raise
    finally:
        os.close(descriptor)
