"""A federation ends or goes on; it never hangs.

FedML runs MPI in a thread that keeps a failed process alive, so an exception in one rank leaves all others waiting.
Here every handler is guarded, every wait has a limit, and the end of one rank is the end of the job.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from fedclip_plugin.errors import FedClipError


def stop_job(comm: Any, who: str, error: BaseException | str) -> None:
    """Say why on stderr and end every rank of the job with exit code 1.

    Parameters
    ----------
    comm
        MPI communicator.
    who
        Silo and round, such as ``silo cartoon (rank 2), round 3``.
    error
        The exception (its traceback is printed unless the user caused it), or a sentence.
    """
    if isinstance(error, BaseException) and not isinstance(error, FedClipError):
        text = "".join(traceback.format_exception(error))
    else:
        text = f"{error}\n"
    os.write(2, f"fedclip: the job stops: {who}: {text}".encode())
    comm.Abort(1)
    os._exit(1)


class Guarded:
    """Mixin for FedML's managers: an exception in a handler ends the job instead of leaving it waiting."""

    args: Any
    message_handler_dict: dict[Any, Callable[[Any], None]]

    def where(self) -> str:
        """Return who this is and which round it is in."""
        raise NotImplementedError

    def receive_message(self, msg_type: Any, msg_params: Any) -> None:
        """Run the handler of one message; FedML's own would turn a KeyError into a misleading message and wait on."""
        try:
            self.message_handler_dict[msg_type](msg_params)
        except BaseException as error:
            stop_job(self.args.comm, self.where(), error)


class Watchdog:
    """Ends the job when nothing has fed it for too long.

    Parameters
    ----------
    on_silence
        Called once, in a thread of its own, when the time is over; gets the limit in seconds.
    """

    def __init__(self, on_silence: Callable[[float], None]) -> None:
        self._on_silence = on_silence
        self._changed = threading.Condition()
        self._limit: float | None = None
        self._deadline = 0.0
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def feed(self, limit: float) -> None:
        """Give the job ``limit`` seconds from now."""
        with self._changed:
            self._limit, self._deadline = limit, time.monotonic() + limit
            self._changed.notify()

    def rest(self) -> None:
        """Stop watching until the next :meth:`feed`."""
        with self._changed:
            self._limit = None
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                if self._limit is None:
                    self._changed.wait()
                elif (left := self._deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    break
            limit = self._limit
        self._on_silence(limit)
