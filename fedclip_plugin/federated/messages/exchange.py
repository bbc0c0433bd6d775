"""Objects between the server and the silos outside of a federation: every wait has a limit, and says who is late."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.managers.watchdog import PATIENCE
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.text import told

_TAG = 7302
_POLL_SECONDS = 0.01
_LAST_WORD_SECONDS = 5.0
"""How long a job that ends anyway waits for silos to hear why."""


class Exchange:
    """Between the server and each silo; all ranks take part in the same order.

    Waits are a slow poll: MPI's own waiting calls would keep a core busy that another rank needs for encoding, and
    would wait for ever for a rank that is frozen.

    Parameters
    ----------
    limit
        Seconds that the server waits for silos; then it ends the job and names those that are late. Silos wait a
        little longer for the server.
    key
        Which key of the recipe this limit is.
    """

    def __init__(
        self, comm: Any, names: Sequence[str], limit: float, when: str, key: str = "fedclip_args.start_timeout"
    ) -> None:
        self._comm, self._when, self._key = comm, when, key
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self._limit = limit * PATIENCE if self._rank else limit
        self._names = [told(names[rank]) if rank < len(names) else f"rank {rank}" for rank in range(self._size)]

    def to_server(self, value: Any) -> None:
        """Send the server an object."""
        self._finish({0: self._comm.isend(value, dest=0, tag=_TAG)}, self._limit)

    def from_silos(self, kind: type[Any]) -> list[Any]:
        """Return an object of every silo, in their order; a FedClipError names the silo whose is of another kind."""
        received = self._receive(range(1, self._size))
        return [self._expected(value, (kind,), rank) for rank, value in enumerate(received, 1)]

    def to_silos(self, values: Sequence[Any], last: bool = False) -> None:
        """Send every silo its object, and wait until each has taken it, so that nobody is frozen.

        Values are in the order of the ranks, the server's own included. Where the job ends in any case, with ``last``,
        whoever does not listen is not waited for long.
        """
        # Synchronous sends end when the receiver has begun to take them.
        sent = {rank: self._comm.issend(values[rank], dest=rank, tag=_TAG) for rank in range(1, self._size)}
        self._finish(sent, min(self._limit, _LAST_WORD_SECONDS) if last else self._limit, last)

    def from_server(self, *kinds: type[Any]) -> Any:
        """Return an object of the server; a FedClipError when it is of none of these kinds."""
        (received,) = self._receive([0])
        return self._expected(received, kinds, 0)

    def _expected(self, received: Any, kinds: tuple[type[Any], ...], rank: int) -> Any:
        if not isinstance(received, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise FedClipError(
                f"{self._names[rank]} sent something that is no {wanted}: do all hosts have the same version?"
            )
        return received

    def _finish(self, sending: Mapping[int, Any], limit: float, last: bool = False) -> None:
        waiting, began = dict(sending), time.monotonic()
        while waiting := {rank: request for rank, request in waiting.items() if not request.Test()}:
            if time.monotonic() - began > limit:
                if not last:
                    self._stop(waiting, limit)
                return
            _pause(began)

    def _receive(self, ranks: Iterable[int]) -> list[Any]:
        """Receive one object from each of ``ranks``, or end the job when one stays silent."""
        waiting, received, began = set(ranks), dict[int, Any](), time.monotonic()
        while True:
            for rank in sorted(waiting):
                if self._comm.Iprobe(source=rank, tag=_TAG):
                    received[rank] = self._take(rank)
                    waiting.discard(rank)
            if not waiting:
                return [received[rank] for rank in sorted(received)]
            if time.monotonic() - began > self._limit:
                self._stop(waiting, self._limit)
            _pause(began)

    def _take(self, rank: int) -> Any:
        try:
            return self._comm.recv(source=rank, tag=_TAG)
        except Exception as error:  # unpickling raises whatever the bytes make it raise
            why = told(f"{type(error).__name__}: {error}", 200)
            stop_job(self._comm, self._who(), f"{self._titled(rank)} sent bytes that are no message: {why}")

    def _stop(self, late: Iterable[int], limit: float) -> None:
        names = ", ".join(self._names[rank] for rank in sorted(late))
        reason = f"no sign of {names} within {limit:.0f} s ({self._key})"
        advice = "look at those hosts, or allow more time"
        stop_job(self._comm, self._who(), f"{reason}; {advice}")

    def _who(self) -> str:
        return f"{self._titled(self._rank)}, {self._when}"

    def _titled(self, rank: int) -> str:
        name, number = self._names[rank], f"rank {rank}"
        return name if name == number else f"{name} ({number})"


def _pause(began: float) -> None:
    """Sleep for a moment that is short at first."""
    time.sleep(min(_POLL_SECONDS, (time.monotonic() - began) / 10))
