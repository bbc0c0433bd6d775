"""How a job ends where a silo may be missing: whoever is there says that it is done, and the server ends the others.

MPI itself ends a job only when every process has come to its end, and a process that is frozen never does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NoReturn

_TAG = 7304
_POLL_SECONDS = 0.01


def say_done(comm: Any) -> None:
    """Tell the server that this silo's rank has nothing left to do."""
    from mpi4py import MPI

    comm.Isend([bytearray(), MPI.BYTE], dest=0, tag=_TAG).Wait()  # without contents, it needs nobody who takes it


def await_done(comm: Any, ranks: Iterable[int], limit: float) -> set[int]:
    """Wait on the server until these ranks are done; return those that are not after ``limit`` seconds."""
    from mpi4py import MPI

    waiting, end = set(ranks), time.monotonic() + limit
    while waiting and time.monotonic() < end:
        status = MPI.Status()
        message = comm.Improbe(source=MPI.ANY_SOURCE, tag=_TAG, status=status)
        if message is None:
            time.sleep(_POLL_SECONDS)
            continue
        message.Recv([bytearray(), MPI.BYTE])
        waiting.discard(status.Get_source())
    return waiting


def end_job(comm: Any) -> NoReturn:
    """End every rank of the job, those that are frozen too, as one that has come to its end."""
    comm.Abort(0)
    raise AssertionError("MPI has ended this process")
