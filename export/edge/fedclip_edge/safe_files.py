"""Reading files that somebody else put there: plain files only, never more than expected."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fedclip_edge.errors import BundleError

Stamps: TypeAlias = Mapping[Path, tuple[int, int, int]]
"""By which files are known again: inode, size and time of the last change."""

_CHUNK = 1 << 20
# Without O_NONBLOCK a named pipe would hold the reader for ever; O_BINARY is for Windows.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_OF_OTHERS = _FLAGS | getattr(os, "O_NOFOLLOW", 0)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file, be it through a link; anything else is a ValueError, without being opened or waited for."""
    _require_plain(path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _require_plain(os.fstat(descriptor))  # another file may have taken its place
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    """Return by what a file is known again."""
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a link, a folder, a pipe or a device is refused without waiting for it.

    A BundleError is of ``missing-file`` (also when it cannot be read) or ``not-regular``.
    """
    try:
        _require_regular(path, os.lstat(path))
        descriptor = os.open(path, _OF_OTHERS)
    except FileNotFoundError as error:
        raise BundleError("missing-file", f"{path} is missing; fetch the whole folder again") from error
    except OSError as error:
        raise BundleError("missing-file", f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        _require_regular(path, os.fstat(descriptor))
        yield stream


def read_capped(path: Path, limit: int) -> bytes:
    """Return the whole content of a small regular file; more than `limit` bytes are ``too-large``."""
    with open_regular(path) as stream, reading(path):
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise BundleError("too-large", f"{path} has more than {limit} bytes, the limit for this file; fetch it again")
    return content


def read_listed(path: Path, size: int, sha256: str) -> bytes:
    """Return the content of a regular file after its size and hash were found to be as listed."""
    content = io.BytesIO()
    with open_regular(path) as stream:
        check_listed(stream, path, size, sha256, content)
    return content.getvalue()


def check_listed(stream: BinaryIO, path: Path, size: int, sha256: str, copy: BinaryIO | None = None) -> None:
    """Read an open file through, and see that its size and hash are as listed (``size``, ``hash``).

    What lies in `copy` when this returns is what was hashed.
    """
    with reading(path):
        _require_size(path, os.fstat(stream.fileno()).st_size, size)
    digest, seen = hashlib.sha256(), 0
    while chunk := _read_chunk(stream, path, size + 1 - seen):
        digest.update(chunk)
        seen += len(chunk)
        if copy is not None:
            copy.write(chunk)
    _require_size(path, seen, size)
    _require_hash(path, digest.hexdigest(), sha256)


def _read_chunk(stream: BinaryIO, path: Path, left: int) -> bytes:
    with reading(path):
        return stream.read(min(_CHUNK, left))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the refusal ``missing-file``."""
    try:
        yield
    except OSError as error:
        raise BundleError("missing-file", f"{path} cannot be read: {error.strerror}") from error


def _require_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "something else")
        raise ValueError(f"it is {kind}, not a plain file")


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(
            "not-regular", f"{path} is a link, a folder, a pipe or a device; a bundle holds plain files only"
        )


def _require_size(path: Path, found: int, listed: int) -> None:
    if found != listed:
        more = "more" if found > listed else f"{found}"
        raise BundleError("size", f"{path} has {more} bytes, the manifest lists {listed}; fetch it again")


def _require_hash(path: Path, found: str, listed: str) -> None:
    if found != listed:
        raise BundleError(
            "hash", f"{path} has SHA-256 {found[:16]}..., the manifest lists {listed[:16]}...; fetch it again"
        )
