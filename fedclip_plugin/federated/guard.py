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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from fedclip_plugin.errors import FedClipError, FederationError
from fedclip_plugin.federated.own_words import say
from fedclip_plugin.streams import refusal
from fedclip_plugin.text import told

PATIENCE = 1.5
"""A silo waits this much longer than the server would, so that the server, which knows who is late, speaks first."""

_TICK_SECONDS = 1.0
"""The watchdog looks at the clock this often: a longer step means that this process itself stood still."""

_TOGETHER_SECONDS = 0.2
"""Whose time is over this soon after the first one's is named together with it: messages go out one by one."""


def stop_job(comm: Any, who: str, error: BaseException | str) -> NoReturn:
    """Say why on stderr and end every rank of the job with exit code 1.

    Parameters
    ----------
    comm
        MPI communicator; None where MPI is closing: mpirun ends the others then.
    who
        Silo and round, such as ``silo cartoon (rank 2), round 3``.
    error
        The exception (its traceback is printed unless the user caused it), or a sentence.
    """
    if isinstance(error, OSError) and error.filename is not None:
        text = refusal(error)
    elif isinstance(error, BaseException) and not isinstance(error, FedClipError):
        text = "".join(traceback.format_exception(error))
    else:
        text = str(error)
    short = text if isinstance(error, str) else f"{type(error).__name__}; its log, on its machine, says more"
    say(f"fedclip: the job stops: {who}: {text.rstrip()}", f"fedclip: the job stops: {who}: {short}")
    if comm is not None:
        comm.Abort(1)
    os._exit(1)


class Guarded(ABC):
    """Mixin for FedML's managers: an exception in a handler ends the job instead of leaving it waiting."""

    args: Any
    names: Mapping[int, str]
    """Rank to name, of this rank and of those that send to it."""
    message_handler_dict: dict[Any, Callable[[Any], None]]

    @abstractmethod
    def where(self) -> str:
        """Return who this is and which round it is in."""

    def receive_message(self, msg_type: Any, msg_params: Any) -> None:
        """Run the handler of one message; FedML's own would turn a KeyError into a misleading message and wait on."""
        try:
            self.handle(msg_type, msg_params)
        except BaseException as error:
            stop_job(self.args.comm, self.where(), error)

    def handle(self, kind: Any, message: Any) -> None:
        """Give a message to its handler.

        Raises
        ------
        FederationError
            When there is none for its type.
        """
        if kind not in self.message_handler_dict:
            sender = self.names[message.get_sender_id()]
            raise FederationError(f"{sender} sent a message of type {told(kind)}, which nobody here takes")
        self.message_handler_dict[kind](message)


class StaysOpen:
    """Mixin for FedML's managers: a federation that ends closes its transport, not MPI; another may follow."""

    com_manager: Any

    def finish(self) -> None:
        """Leave the federation."""
        self.com_manager.stop_receive_message()


class Watchdog:
    """Ends the job when somebody who is waited for stays silent too long.

    Time in which this process itself stood still counts for nobody.

    Parameters
    ----------
    on_silence
        Called once, in a thread of its own, with the names of those whose time is over.
    """

    def __init__(self, on_silence: Callable[[list[str]], None]) -> None:
        self._on_silence = on_silence
        self._changed = threading.Condition()
        self._waits: dict[str, list[float]] = {}  # of each name, how long it has for each word; the oldest first
        self._deadlines: dict[str, float] = {}  # for the oldest
        self._closed = False
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect(self, names: Iterable[str], limit: float) -> None:
        """Wait for one more word of each of ``names``, up to ``limit`` seconds after its last one, or from now."""
        with self._changed:
            for name in names:
                self._waits.setdefault(name, []).append(limit)
                self._deadlines.setdefault(name, time.monotonic() + limit)
            self._changed.notify()

    def heard(self, name: str) -> None:
        """Take note of a word of ``name``; if more are waited for, its time begins anew."""
        with self._changed:
            self._deadlines.pop(name, None)
            waits = self._waits.get(name, [])
            del waits[:1]
            if waits:
                self._deadlines[name] = time.monotonic() + waits[0]

    def close(self) -> None:
        """Wait for nobody any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        late: list[str] = []
        with self._changed:
            while not self._closed and not late:
                before = time.monotonic()
                nearest = self._end_of_patience()
                self._changed.wait(None if nearest is None else min(max(0.0, nearest - before), _TICK_SECONDS))
                stood = time.monotonic() - before - _TICK_SECONDS if nearest is not None else 0.0
                if stood > _TICK_SECONDS:
                    self._deadlines = {name: end + stood for name, end in self._deadlines.items()}
                nearest, now = self._end_of_patience(), time.monotonic()
                if nearest is not None and nearest <= now:
                    late = [name for name, end in self._deadlines.items() if end <= now]
        if not self._closed:
            self._on_silence(late)

    def _end_of_patience(self) -> float | None:
        """Return when it is enough; None while nobody is waited for."""
        return min(self._deadlines.values()) + _TOGETHER_SECONDS if self._deadlines else None


@contextmanager
def together(comm: Any, who: str, what: str, limit: float) -> Iterator[None]:
    """Guard a block in which MPI waits until every rank has come, for ever if need be.

    Parameters
    ----------
    comm, who
        As for :func:`stop_job`.
    what
        What somebody does not come to, such as ``the end``.
    limit
        Seconds after which the job ends instead.
    """
    watchdog = Watchdog(lambda late: stop_job(comm, who, f"{late[0]} within {limit:.0f} s: look at the silos' hosts"))
    watchdog.expect([f"another rank does not come to {what}"], limit)
    try:
        yield
    finally:
        watchdog.close()
