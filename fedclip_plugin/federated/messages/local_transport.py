"""FedML's messages between ranks of one process: encoded as for MPI, counted, and delivered one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedml.core.distributed.communication.message import Message

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.messages.fedml_messages import announced, decode, encode
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, PackedMessage

Pair = tuple[int, int]
"""The rank that sends and the rank that receives."""

Leaving = Callable[[Message, PackedMessage], None]
"""Sees a message, and as it is packed, before it is sent."""


def unseen(message: Message, packed: PackedMessage) -> None:
    """Let a message pass."""


@dataclass(frozen=True)
class WaitingMessage:
    """A message between two ranks: its header, and a copy of its tensors, which may change at once."""

    header: bytes
    contents: tuple[memoryview, ...]

    def __len__(self) -> int:
        """Return the bytes that travel."""
        return len(self.header) + sum(content.nbytes for content in self.contents)


class LocalNetwork:
    """The ranks of one process and the messages that wait between them.

    Attributes
    ----------
    waiting
        Messages by pair of ranks, in the order in which they were sent; the pair that waits longest comes first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: dict[Pair, deque[WaitingMessage]] = {}
        self.transports: dict[int, LocalTransport] = {}

    def comm(self, rank: int) -> LocalComm:
        """Return what one rank has in place of MPI's communicator."""
        return LocalComm(rank, self.size, self)

    def put(self, pair: Pair, message: WaitingMessage) -> None:
        """Keep a message until it is delivered."""
        self.waiting.setdefault(pair, deque()).append(message)

    def pop(self, pair: Pair) -> WaitingMessage:
        """Take out the oldest message of a pair."""
        line = self.waiting[pair]
        message = line.popleft()
        if not line:
            del self.waiting[pair]
        return message

    def deliver(self, pair: Pair) -> None:
        """Give the oldest message of a pair to the manager of the rank that receives it."""
        message = self.pop(pair)
        transport = self.transports[pair[1]]
        if transport.over:
            raise FederationError(f"rank {pair[0]} sent a message to rank {pair[1]}, which has left the federation")
        transport.take(pair[0], message)

    def run(self) -> None:
        """Deliver every message until none waits; the managers answer in between.

        Raises
        ------
        FederationError
            When ranks are left that nobody has sent the end of the federation.
        """
        while self.waiting:
            self.deliver(next(iter(self.waiting)))
        if left := [rank for rank, transport in self.transports.items() if not transport.over]:
            raise FederationError(f"ranks {', '.join(map(str, left))} wait for messages that nobody sends")


@dataclass(eq=False)
class LocalTransport:
    """One rank's end of the network, as FedML's managers use a communication manager."""

    network: LocalNetwork
    rank: int
    names: Mapping[int, str]  # of this rank and of those that send to it
    expected: Mapping[str, ExpectedKind]  # the kinds of messages that this rank takes
    heard: Callable[[int], None]  # called with a peer's rank when a message of it has arrived
    leaving: Leaving = unseen
    bytes_sent: int = 0
    bytes_received: int = 0
    over: bool = False
    observer: Any = None

    def __post_init__(self) -> None:
        """Take the rank's place in the network."""
        self.network.transports[self.rank] = self

    def add_observer(self, observer: Any) -> None:
        """Note the manager that takes this rank's messages."""
        self.observer = observer

    def send_message(self, message: Message) -> None:
        """Keep a copy of a message until it is delivered: its tensors may change at once."""
        packed = encode(message)
        self.leaving(message, packed)
        self.bytes_sent += len(packed)
        copied = tuple(memoryview(bytearray(tensor.memory)) for tensor in packed.tensors)
        waiting = WaitingMessage(packed.header, copied)
        self.network.put((self.rank, int(message.get_receiver_id())), waiting)

    def take(self, source: int, waiting: WaitingMessage) -> None:
        """Count a message from rank ``source`` and give it to the manager; a FederationError when it is none."""
        found = announced(waiting.header, self.expected, source, self.names[source], self.rank)
        message = decode(found, waiting.contents)
        self.bytes_received += len(waiting)
        self.heard(source)
        self.observer.receive_message(message.get_type(), message)

    def give_up(self, ranks: Iterable[int]) -> None:
        """Leave without these ranks: here nothing that was sent is lost."""

    def stop_receive_message(self) -> None:
        """Leave the federation."""
        self.over = True
