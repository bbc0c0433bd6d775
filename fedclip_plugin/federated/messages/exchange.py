"""Messages between the server and the silos outside of a federation: every wait has a limit, and says who is late.

A message is a dataclass or a pydantic model; its kind is the name of its class. What travels are its fields, as their
types say, and arrays beside them: no class is named that the receiver does not name first.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.managers.watchdog import PATIENCE
from fedclip_plugin.federated.messages.leaving import value_leaves
from fedclip_plugin.federated.messages.packing.mpi_transfer import Arriving, Sending, arrived_header
from fedclip_plugin.federated.messages.packing.packed_message import (
    ExpectedKind,
    PackedMessage,
    UnexpectedKindError,
    pack,
    read_header,
)
from fedclip_plugin.federated.messages.packing.tensor_layouts import NO_TENSORS, TensorLayout
from fedclip_plugin.federated.messages.packing.typed_values import made_of, record_of
from fedclip_plugin.federated.stop import WAITED_IN_VAIN, stop_job
from fedclip_plugin.ranks import world
from fedclip_plugin.text import told

_TAG = 7302
"""Of headers; what goes beside them has the next one."""

_POLL_SECONDS = 0.01
_LAST_WORD_SECONDS = 5.0
"""How long a job that ends anyway waits for silos to hear why."""

Layouts = Mapping[type[Any], Sequence[TensorLayout]]
"""By class of a message: which arrays it may have."""

_untaken: list[Sending | Arriving] = []
"""What is on its way to or from ranks that do not listen: MPI may read and write it until this process ends."""


def packed(value: Any) -> PackedMessage:
    """Return a message as it travels."""
    record = record_of(type(value))
    return pack(type(value).__name__, record, {name: getattr(value, name) for name in record.fields})


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
    layouts
        Which arrays the messages that come here may have; a class that is not there has none.
    without
        Ranks that are not there: the server sends them nothing, and waits for nothing from them.
    leniency
        How many silos will do, and for how many seconds the server waits for the others then; after that they are not
        there either. None waits for all.

    Attributes
    ----------
    silos
        Ranks of the silos that are there, ascending.
    """

    def __init__(
        self,
        comm: Any,
        names: Sequence[str],
        limit: float,
        when: str,
        key: str = "fedclip_args.start_timeout",
        layouts: Layouts | None = None,
        without: Collection[int] = (),
        leniency: tuple[int, float] | None = None,
    ) -> None:
        self._comm, self._when, self._key, self._layouts = comm, when, key, layouts or {}
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self.silos = [rank for rank in range(1, self._size) if rank not in without]
        self._leniency = None if self._rank else leniency
        self._limit = limit * PATIENCE if self._rank else limit
        self._names = [told(names[rank]) if rank < len(names) else f"rank {rank}" for rank in range(self._size)]

    def to_server(self, value: Any) -> None:
        """Send the server a message; where the silo's policy or log keeps it back, the job ends."""
        message = packed(value)
        try:
            value_leaves(value, message)
        except FedClipError as error:
            stop_job(self._comm, self._who(), error)
        self._finish({0: Sending.begin(self._comm, message, 0, _TAG)}, self._limit)

    def from_silos(self, kind: type[Any]) -> list[Any]:
        """Return a message of every silo, in their order; a FedClipError names the silo whose is of another kind."""
        return self._receive(self.silos, (kind,))

    def to_silos(self, values: Sequence[Any], last: bool = False) -> None:
        """Send every silo its message, and wait until each has taken it, so that nobody is frozen.

        Values are in the order of the ranks, the server's own included. Where the job ends in any case, with ``last``,
        whoever does not listen is not waited for long.
        """
        made = {id(value): packed(value) for value in values[1:]}  # one for all ranks that are sent the same
        sent = {rank: Sending.begin(self._comm, made[id(values[rank])], rank, _TAG) for rank in self.silos}
        self._finish(sent, min(self._limit, _LAST_WORD_SECONDS) if last else self._limit, last)

    def from_server(self, *kinds: type[Any]) -> Any:
        """Return a message of the server; a FedClipError when it is of none of these kinds."""
        (received,) = self._receive([0], kinds)
        return received

    def _finish(self, sending: Mapping[int, Sending], limit: float, last: bool = False) -> None:
        waiting, began, patience = dict(sending), time.monotonic(), _Patience(self._leniency)
        while waiting := {rank: message for rank, message in waiting.items() if not message.over()}:
            if patience.ends(len(sending) - len(waiting)):
                self._give_up(waiting)
                return
            if time.monotonic() - began > limit:
                if not last:
                    self._stop(waiting, limit)
                _untaken.extend(waiting.values())
                return
            _pause(began)

    def _give_up(self, messages: Mapping[int, Sending | Arriving | None]) -> None:
        """Take it that these ranks are not there; what is on its way to or from them is left alone."""
        _untaken.extend(message for message in messages.values() if message is not None)
        self.silos = [rank for rank in self.silos if rank not in messages]

    def _receive(self, ranks: Iterable[int], kinds: Sequence[type[Any]]) -> list[Any]:
        """Receive one message from each of ``ranks``, or end the job when one stays silent."""
        classes = {kind.__name__: kind for kind in kinds}
        expected = {
            name: ExpectedKind(record_of(kind), self._layouts.get(kind, NO_TENSORS)) for name, kind in classes.items()
        }
        waiting, arriving, received, began = set(ranks), dict[int, Arriving](), dict[int, Any](), time.monotonic()
        patience = _Patience(self._leniency)
        while True:
            for rank in sorted(waiting):
                try:
                    if rank not in arriving and (header := arrived_header(self._comm, rank, _TAG)) is not None:
                        announced = read_header(header[0], expected)
                        arriving[rank] = Arriving(self._comm, announced, rank, _TAG)
                    if rank in arriving and arriving[rank].over():
                        whole = arriving.pop(rank)
                        values = whole.announced.values(whole.contents)
                        received[rank] = made_of(classes[whole.announced.kind], values)
                        waiting.discard(rank)
                except UnexpectedKindError as error:
                    wanted = " or ".join(classes)
                    raise FedClipError(
                        f"{self._names[rank]} sent something that is no {wanted}: do all hosts have the same version?"
                    ) from error
                except ValueError as error:
                    why = told(str(error), 200)
                    stop_job(self._comm, self._who(), f"{self._titled(rank)} sent bytes that are no message: {why}")
            if waiting and patience.ends(len(received)):
                self._give_up({rank: arriving.get(rank) for rank in waiting})
                waiting = set()
            if not waiting:
                return [received[rank] for rank in sorted(received)]
            if time.monotonic() - began > self._limit:
                self._stop(waiting, self._limit)
            _pause(began)

    def _stop(self, late: Collection[int], limit: float) -> None:
        names = ", ".join(self._names[rank] for rank in sorted(late))
        reason = f"no sign of {names} within {limit:.0f} s ({self._key})"
        advice = "look at those hosts, or allow more time"
        code, here = WAITED_IN_VAIN if self._rank else None, world()
        silent = late if here == (0, self._size) else ()  # ranks of the whole job, not of one machine
        stop_job(self._comm, self._who(), f"{reason}; {advice}", code, silent)

    def _who(self) -> str:
        return f"{self._titled(self._rank)}, {self._when}"

    def _titled(self, rank: int) -> str:
        name, number = self._names[rank], f"rank {rank}"
        return name if name == number else f"{name} ({number})"


class _Patience:
    """How long the server waits for the others when enough silos have answered; without leniency for ever."""

    def __init__(self, leniency: tuple[int, float] | None) -> None:
        self._leniency = leniency
        self._since: float | None = None

    def ends(self, answers: int) -> bool:
        """Return whether nobody else is waited for any more."""
        if self._leniency is None or answers < self._leniency[0]:
            return False
        self._since = time.monotonic() if self._since is None else self._since
        return time.monotonic() - self._since > self._leniency[1]


def _pause(began: float) -> None:
    """Sleep for a moment that is short at first."""
    time.sleep(min(_POLL_SECONDS, (time.monotonic() - began) / 10))
