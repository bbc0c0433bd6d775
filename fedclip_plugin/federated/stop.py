"""The end of a whole job: said once, on every rank's behalf."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fedclip_edge.files import write_file
from fedclip_edge.terminal import refusal
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.rank_output import say

SILENT_RANKS = "FEDCLIP_SILENT_RANKS"
"""Names a file in which the server notes, for the launcher beside it, who was silent when it ends a job."""

WAITED_IN_VAIN = 3
"""Exit code of a rank that has waited too long for another one, and cannot tell for which."""

_MPIRUN_SECONDS = 10.0
"""How long a rank that MPI tells of another one's death waits to be ended: mpirun, which knows who it was, says so."""


def _is_of_dead_peer(error: BaseException | str) -> bool:
    """Return whether an error is MPI's word that another rank has died."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not isinstance(error, mpi.Exception):
        return False
    return error.Get_error_class() in (mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING, mpi.ERR_REVOKED)


def noted_ranks(note: Path) -> tuple[int, ...]:
    """Return the ranks that a server has noted; none where it has noted nothing."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))["silent"]
    except FileNotFoundError:
        return ()
    return tuple(sorted(map(int, found)))


def stop_job(
    comm: Any, who: str, error: BaseException | str, code: int | None = None, silent: Iterable[int] = ()
) -> NoReturn:
    """Say why on stderr and end every rank of the job with an exit code; in one process, raise the error instead.

    Parameters
    ----------
    comm
        MPI communicator, or a :class:`LocalComm`; None where MPI is closing: mpirun ends the others then.
    error
        The exception (its traceback is printed unless the user caused it), or a sentence.
    code
        The exit code; without it the error's own, of which 2 lets nobody advise a resume, or 1.
    silent
        On the server, the ranks for which it has waited in vain.
    """
    if _is_of_dead_peer(error):
        time.sleep(_MPIRUN_SECONDS)
    code = getattr(error, "exit_code", 1) if code is None else code
    if isinstance(comm, LocalComm):
        comm.fail(who, error)
    if isinstance(error, OSError) and error.filename is not None:
        text = refusal(error)
    elif isinstance(error, BaseException) and not isinstance(error, FedClipError):
        text = "".join(traceback.format_exception(error))
    else:
        text = str(error)
    short = text if isinstance(error, str) else f"{type(error).__name__}; its log, on its machine, says more"
    say(f"fedclip: the job stops: {who}: {text.rstrip()}", f"fedclip: the job stops: {who}: {short}")
    if silent and SILENT_RANKS in os.environ:
        with suppress(OSError):  # then nobody is left out, and the job ends as it would without a launcher
            write_file(Path(os.environ[SILENT_RANKS]), json.dumps({"silent": sorted(silent)}).encode())
    if comm is not None:
        comm.Abort(code)
    os._exit(code)
