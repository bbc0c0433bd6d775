"""One process at a time in a folder: a lock that dies with its holder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FolderInUseError
from fedclip_plugin.runs.writing import writing

logger = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds to wait for a lock: the ranks of a job whose launcher was killed end within one."""

_STEP = 0.1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_LONGEST_NOTE = 300


class FolderLock:
    """Keeps all other processes out of a folder, as far as they ask; the system lets go when the holder dies.

    The file, whose folder exists when it is taken, says who holds it. Where the file system has no locks, that is said,
    and work goes on. Messages say what is kept, such as ``run folder runs/demo``, and what somebody can do instead who
    comes second, such as ``name another with --run``.
    """

    def __init__(self, file: Path, what: str, instead: str = "") -> None:
        self.file, self._what, self._instead = file, what, instead
        self._held: int | None = None

    def take(self) -> None:
        """Take the lock, and keep it until :meth:`release` or the end of the process.

        Once is enough, unless the folder was removed and made again meanwhile: then it is taken anew. A
        FolderInUseError says that another process has it, a RunFolderError that the file cannot be written.
        """
        if self._held is not None:
            if _is(self._held, self.file):
                return
            os.close(self._held)
            self._held = None
        with writing(self._what):
            self._held = self._wait(os.O_RDWR | os.O_CREAT)
            if self._held is not None:
                os.ftruncate(self._held, 0)
                os.pwrite(self._held, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)

    def require_free(self) -> None:
        """See that nobody has the lock, and leave everything as it is."""
        if self._held is None and os.access(self.file, os.R_OK | os.W_OK):
            with writing(self._what), suppress(FileNotFoundError):  # who had it has removed it
                descriptor = self._wait(os.O_RDWR)
                if descriptor is not None:
                    os.close(descriptor)

    def release(self) -> None:
        """Let others in; a lock that is not held is no fault."""
        if self._held is not None:
            self.file.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock during a block; errors as :meth:`take`."""
        self.take()
        try:
            yield
        finally:
            self.release()

    def _wait(self, flags: int) -> int | None:
        """Return the locked file's descriptor; None where there is nothing to lock with."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            descriptor = os.open(self.file, flags, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(descriptor, self.file):
                    return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = _holder(os.pread(descriptor, _LONGEST_NOTE, 0))
                    os.close(descriptor)
                    instead = f", or {self._instead}" if self._instead else ""
                    raise FolderInUseError(
                        f"{self._what} is in use by {holder}: wait until it has ended{instead}"
                    ) from None
                time.sleep(_STEP)
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_LOCKS:
                    raise
                logger.warning("the file system of %s has no locks: let no other job work in it", self._what)
                return None
            os.close(descriptor)  # held by somebody, or removed by who held it


def _is(descriptor: int, file: Path) -> bool:
    """Return whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _holder(note: bytes) -> str:
    number, _, host = note.decode(errors="replace").strip().partition(" ")
    return f"process {number} on {printable(host)}" if number.isdigit() and host else "another process"
