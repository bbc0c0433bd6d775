"""Packed messages over MPI: bytes from where they lie to where they stay, by calls that never block.

What arrives is looked at before it is received (a matched probe): MPI says how long it is, and memory of exactly that
length is there, or nothing is received. A receive that is posted beforehand would not do: Open MPI 5.0 writes a message
that is longer than the memory for it past the end of that memory, and then reports that it was truncated.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from fedclip_plugin.federated.messages.packing.packed_message import (
    HEADER_BYTES,
    PIECE_BYTES,
    Announced,
    PackedMessage,
    pieces_of,
)
from fedclip_plugin.federated.messages.packing.tensor_memory import room_for

TAGS_EACH = 2
"""A header has the first of two tags, what goes beside it the second."""

_FIRST_TRIES = 200
"""How often parts are looked for at first: they come with their header, and a pause would take longer."""


@dataclass(frozen=True)
class Sending:
    """A message on its way out to a rank, and MPI's requests for its parts; the message keeps their memory."""

    message: PackedMessage
    requests: list[Any]
    to: int

    @classmethod
    def begin(cls, comm: Any, message: PackedMessage, to: int, tag: int) -> Sending:
        """Hand a message to MPI."""
        # Synchronous sends end when the receiver has begun to take them: what is over is not lost.
        requests = [comm.Issend(message.header, dest=to, tag=tag)]
        requests += [comm.Issend(piece, dest=to, tag=tag + 1) for piece in message.pieces()]
        return cls(message, requests, to)

    def over(self) -> bool:
        """Return whether all parts have gone out."""
        return all(request.Test() for request in self.requests)


def arrived_header(comm: Any, source: int | None, tag: int) -> tuple[bytes, int] | None:
    """Return the next header and its sender's rank; None where none has come.

    ``source`` is whose header is wanted, None for anybody's. A ValueError says that it is too long; it is not received.
    """
    from mpi4py import MPI

    status = MPI.Status()
    message = comm.Improbe(source=MPI.ANY_SOURCE if source is None else source, tag=tag, status=status)
    if message is None:
        return None
    size, sender = status.Get_count(MPI.BYTE), status.Get_source()
    if not 0 <= size <= HEADER_BYTES:
        raise LongHeaderError(sender)
    header = bytearray(size)
    message.Recv([header, MPI.BYTE])
    return bytes(header), sender


class LongHeaderError(ValueError):
    """A header that is too long to be received, of rank ``sender``."""

    def __init__(self, sender: int) -> None:
        super().__init__(f"its header has more than {HEADER_BYTES:,} bytes")
        self.sender = sender


class Arriving:
    """A message on its way in: its header is there, and its tensors come.

    Attributes
    ----------
    announced
        What the header says.
    source
        The sender's rank.
    contents
        The tensors' memory; none where they are to be thrown away.
    """

    def __init__(self, comm: Any, announced: Announced, source: int, tag: int) -> None:
        self.announced, self.source = announced, source
        self._comm, self._tag = comm, tag + 1
        self.contents = [] if announced.unexpected else room_for(announced.specs)
        self.size = sum(spec.nbytes for spec in announced.specs)
        self._parts = deque(pieces_of(self.contents))
        self._to_drop = self.size if announced.unexpected else 0
        self._requests: list[Any] = []
        self._tries = _FIRST_TRIES

    def over(self) -> bool:
        """Receive what has come, and return whether all is there; a ValueError when a part has another size.

        Of messages from one sender, only the first that is not over may be asked.
        """
        from mpi4py import MPI

        status, tries, self._tries = MPI.Status(), self._tries, 1
        while self._parts or self._to_drop:
            probes = (self._comm.Improbe(source=self.source, tag=self._tag, status=status) for _ in range(tries))
            message = next((found for found in probes if found is not None), None)
            if message is None:
                return False
            part = self._room(status.Get_count(MPI.BYTE))
            self._requests.append(message.Irecv([part, MPI.BYTE]))
        self._requests = [request for request in self._requests if not request.Test()]
        return not self._requests

    def _room(self, size: int) -> memoryview:
        """Return the memory for a part of this size."""
        if self.announced.unexpected:
            if not 0 < size <= min(self._to_drop, PIECE_BYTES):
                raise ValueError(f"a part has {size:,} bytes, {self._to_drop:,} are left of those announced")
            self._to_drop -= size
            return memoryview(bytearray(size))
        if size != self._parts[0].nbytes:
            raise ValueError(f"a part has {size:,} bytes, {self._parts[0].nbytes:,} were announced")
        return self._parts.popleft()
