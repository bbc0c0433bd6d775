"""The end of a whole job: said once, on every rank's behalf."""

from __future__ import annotations

import os
import traceback
from typing import Any, NoReturn

from fedclip_edge.terminal import refusal
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.rank_output import say


def stop_job(comm: Any, who: str, error: BaseException | str, code: int | None = None) -> NoReturn:
    """Say why on stderr and end every rank of the job with an exit code; in one process, raise the error instead.

    Parameters
    ----------
    comm
        MPI communicator, or a :class:`LocalComm`; None where MPI is closing: mpirun ends the others then.
    error
        The exception (its traceback is printed unless the user caused it), or a sentence.
    code
        The exit code; without it the error's own, of which 2 lets nobody advise a resume, or 1.
    """
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
    if comm is not None:
        comm.Abort(code)
    os._exit(code)
