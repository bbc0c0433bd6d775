"""A federation ends or goes on; it never hangs.

FedML runs MPI in a thread that keeps a failed process alive, so an exception in one rank leaves all others waiting.
Here every handler is guarded, every wait has a limit, and the end of one rank is the end of the job.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.own_words import say

PATIENCE = 1.5
"""A silo waits this much longer than the server would, so that the server, which knows who is late, speaks first."""


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
    short = text if isinstance(error, str) else f"{type(error).__name__}; its log, on its machine, says more\n"
    say(f"fedclip: the job stops: {who}: {text}", f"fedclip: the job stops: {who}: {short}")
    comm.Abort(1)
    os._exit(1)


class Guarded(ABC):
    """Mixin for FedML's managers: an exception in a handler ends the job instead of leaving it waiting."""

    args: Any
    message_handler_dict: dict[Any, Callable[[Any], None]]

    @abstractmethod
    def where(self) -> str:
        """Return who this is and which round it is in."""

    def receive_message(self, msg_type: Any, msg_params: Any) -> None:
        """Run the handler of one message; FedML's own would turn a KeyError into a misleading message and wait on."""
        try:
            self.message_handler_dict[msg_type](msg_params)
        except BaseException as error:
            stop_job(self.args.comm, self.where(), error)


class StaysOpen:
    """Mixin for FedML's managers: a federation that ends closes its transport, not MPI; another may follow."""

    com_manager: Any

    def finish(self) -> None:
        """Leave the federation."""
        self.com_manager.stop_receive_message()


class Watchdog:
    """Ends the job when somebody who is waited for stays silent too long.

    Parameters
    ----------
    on_silence
        Called once, in a thread of its own, with the names of those whose time is over.
    """

    def __init__(self, on_silence: Callable[[list[str]], None]) -> None:
        self._on_silence = on_silence
        self._changed = threading.Condition()
        self._deadlines: dict[str, float] = {}
        self._closed = False
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect(self, names: Iterable[str], limit: float) -> None:
        """Give each of ``names`` up to ``limit`` seconds from now; who is waited for already gets no more time."""
        with self._changed:
            for name in names:
                self._deadlines.setdefault(name, time.monotonic() + limit)
            self._changed.notify()

    def heard(self, name: str) -> None:
        """Wait for ``name`` no longer."""
        with self._changed:
            self._deadlines.pop(name, None)

    def close(self) -> None:
        """Wait for nobody any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        late: list[str] = []
        with self._changed:
            while not self._closed and not late:
                nearest = min(self._deadlines.values(), default=None)
                self._changed.wait(None if nearest is None else max(0.0, nearest - time.monotonic()))
                late = [name for name, end in self._deadlines.items() if end <= time.monotonic()]
        if not self._closed:
            self._on_silence(late)
