"""A federation ends or goes on; it never hangs.

FedML runs MPI in a thread that keeps a failed process alive, so an exception in one rank leaves all others waiting.
Here every wait has a limit, and the end of one rank is the end of the job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.stop import WAITED_IN_VAIN, stop_job

PATIENCE = 1.5
"""A silo waits this much longer than the server would, so that the server, which knows who is late, speaks first."""

_TICK_SECONDS = 1.0
"""The watchdog looks at the clock this often: a longer step means that this process itself stood still."""

_TOGETHER_SECONDS = 0.2
"""Whose time is over this soon after the first one's is named together with it: messages go out one by one."""


class Watchdog:
    """Ends the job when somebody who is waited for stays silent too long.

    Then ``on_silence`` is called once, in a thread of its own, with the names of those whose time is over. Time in
    which this process itself stood still counts for nobody. With a :class:`LocalComm` nobody is waited for.
    """

    def __init__(self, on_silence: Callable[[list[str]], None], comm: Any = None) -> None:
        self._on_silence = on_silence
        self._changed = threading.Condition()
        self._waits: dict[str, list[float]] = {}  # of each name, how long it has for each word; the oldest first
        self._deadlines: dict[str, float] = {}  # for the oldest
        self._closed = False
        if not isinstance(comm, LocalComm):
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

    def excuse(self, names: Iterable[str]) -> None:
        """Wait for these no more, however many words of them were waited for."""
        with self._changed:
            for name in names:
                self._waits.pop(name, None)
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
    """Guard a block in which MPI waits until every rank has come, for ever if need be; the job ends after ``limit`` s.

    ``who`` is as for :func:`stop_job`, and ``what`` somebody does not come to, such as ``the end``.
    """
    told = f"another rank does not come to {what} within {limit:.0f} s: look at the silos' hosts"
    with within(limit, lambda: stop_job(comm, who, told, WAITED_IN_VAIN)):
        yield


@contextmanager
def within(limit: float, on_silence: Callable[[], None]) -> Iterator[None]:
    """Call ``on_silence``, in a thread of its own, where a block takes longer than ``limit`` seconds."""
    watchdog = Watchdog(lambda _: on_silence())
    watchdog.expect(["the end of the block"], limit)
    try:
        yield
    finally:
        watchdog.close()
