"""What clients keep from one round to the next, in one file that all workers of a host map into memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.text import size

_VERSIONS = 3
"""States kept of each client. A killed job may have begun two rounds after the last complete one; one more stays."""


class ClientTable:
    """A row of float32 numbers a client, with the round that left it; room is taken on disk when a row is written.

    A state goes where the oldest one was, and its round is noted last: what a killed job left half written does not
    count. Different workers write rows of different clients.

    Parameters
    ----------
    folder
        Where the table is kept.
    clients, width
        How many rows there are, and how many numbers in each.
    """

    def __init__(self, folder: Path, clients: int, width: int) -> None:
        self._folder, self._shape = folder, (clients, _VERSIONS, width)
        self._rows: np.memmap[Any, np.dtype[np.float32]]
        self._rounds: np.memmap[Any, np.dtype[np.int64]]

    def bytes(self) -> int:
        """Return what the table takes on disk when every client has written."""
        return 4 * int(np.prod(self._shape, dtype=np.int64))

    def begin(self, done: int) -> None:
        """Make the table, or forget what was left after round ``done``; the server does this before anybody opens it.

        Raises
        ------
        RunFolderError
            The disk has no room for the table, or a table that is to be continued is not there, or not whole.
        """
        rounds, rows = self._folder / "rounds.npy", self._folder / "rows.npy"
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if done:
                if not (_holds(rounds, self._shape[:2]) and _holds(rows, self._shape)):
                    raise RunFolderError(
                        f"{self._folder}, what the clients keep, is gone or damaged: restore it from a copy, or begin "
                        "a new run with another --run"
                    )
                self.open()
                self._rounds[self._rounds > done] = 0
                self._rounds.flush()
                return
            free = shutil.disk_usage(self._folder).free
            if self.bytes() > free:
                raise RunFolderError(
                    f"what {self._shape[0]:,} clients keep takes {size(self.bytes())} in {self._folder}, where "
                    f"{size(free)} are free: make room, or take fewer clients"
                )
            for path, kind, shape in ((rounds, np.int64, self._shape[:2]), (rows, np.float32, self._shape)):
                path.unlink(missing_ok=True)
                np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape).flush()  # type: ignore[no-untyped-call]
        self.open()

    def open(self) -> None:
        """Map the table, which :meth:`begin` has made."""
        self._rounds = np.load(self._folder / "rounds.npy", mmap_mode="r+")
        self._rows = np.load(self._folder / "rows.npy", mmap_mode="r+")

    def read(self, client: int) -> NDArray[np.float32] | None:
        """Return a copy of a client's newest state; None when it has none."""
        version = int(self._rounds[client].argmax())
        return self._rows[client, version].copy() if self._rounds[client, version] else None

    def write(self, client: int, number: int, state: NDArray[np.float32]) -> None:
        """Keep a client's state after round ``number``, counted from 1."""
        version = int(self._rounds[client].argmin())
        self._rounds[client, version] = 0
        self._rows[client, version] = state
        self._rounds[client, version] = number

    def flush(self) -> None:
        """Let what was written reach the disk."""
        self._rows.flush()
        self._rounds.flush()


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a file holds a whole array of ``shape``; one that is mapped to be written is filled up."""
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return found.shape == shape
