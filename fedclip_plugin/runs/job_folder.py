"""A folder that belongs to one job at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedclip_plugin.runs.lock import FolderLock
from fedclip_plugin.runs.writing import require_place, writing


class JobFolder:
    """Holds two locks: the job's own, of its server, and that of the launcher, which is there first and goes last.

    ``kind`` and ``option`` are for messages: what it is, such as ``run folder``, and what names another one, ``--run``.
    """

    def __init__(self, path: Path, kind: str, option: str) -> None:
        self.path = path
        self._kind, self._option, self._what = kind, option, f"{kind} {path}"
        instead = f"name another with {option}"
        self._launcher = FolderLock(path / ".launch.lock", self._what, instead)
        self._job = FolderLock(path / ".lock", self._what, instead)

    def require_free(self) -> None:
        """See that no other job works in the folder, and that it can be made or written; writes nothing.

        Raises
        ------
        FolderInUseError
            When another job works in it.
        RunFolderError
            When it cannot be made or written.
        """
        require_place(self.path, self._kind, self._option)
        self._launcher.require_free()
        self._job.require_free()

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Make the folder, and keep other launchers out of it during a block; errors as :meth:`require_free`."""
        self._make()
        with self._launcher.held():
            self._job.require_free()
            yield

    def claim(self) -> None:
        """Make the folder, and keep every other job out of it until :meth:`release` or the end of this process.

        Errors as :meth:`require_free`.
        """
        self._make()
        self._job.take()

    def release(self) -> None:
        """Let other jobs in."""
        self._job.release()

    def _make(self) -> None:
        require_place(self.path, self._kind, self._option)
        with writing(self._what):
            self.path.mkdir(parents=True, exist_ok=True)
