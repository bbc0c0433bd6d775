"""FedML's messages between ranks of one process: encoded as for MPI, counted, and delivered one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedml.core.distributed.communication.message import Message

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.messages.wire_format import PackedMessage, decode, encode

Pair = tuple[int, int]
"""The rank that sends and the rank that receives."""


class LocalNetwork:
    """The ranks of one process and the messages that wait between them.

    Attributes
    ----------
    waiting
        Messages by pair of ranks, in the order in which they were sent; the pair that waits longest comes first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: dict[Pair, deque[PackedMessage]] = {}
        self.transports: dict[int, LocalTransport] = {}

    def comm(self, rank: int) -> LocalComm:
        """Return what one rank has in place of MPI's communicator."""
        return LocalComm(rank, self.size, self)

    def put(self, pair: Pair, parcel: PackedMessage) -> None:
        """Keep a message until it is delivered."""
        self.waiting.setdefault(pair, deque()).append(parcel)

    def pop(self, pair: Pair) -> PackedMessage:
        """Take out the oldest message of a pair."""
        line = self.waiting[pair]
        parcel = line.popleft()
        if not line:
            del self.waiting[pair]
        return parcel

    def deliver(self, pair: Pair) -> None:
        """Give the oldest message of a pair to the manager of the rank that receives it."""
        parcel = self.pop(pair)
        transport = self.transports[pair[1]]
        if transport.over:
            raise FederationError(f"rank {pair[0]} sent a message to rank {pair[1]}, which has left the federation")
        transport.take(pair[0], parcel)

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
    heard: Callable[[int], None]  # called with a peer's rank when a message of it has arrived
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
        parcel = encode(message)
        copied = PackedMessage(parcel.label, tuple(memoryview(bytearray(content)) for content in parcel.contents))
        self.bytes_sent += len(copied)
        self.network.put((self.rank, int(message.get_receiver_id())), copied)

    def take(self, source: int, parcel: PackedMessage) -> None:
        """Count a message from rank ``source`` and give it to the manager."""
        message = decode(parcel)
        self.bytes_received += len(parcel)
        self.heard(source)
        self.observer.receive_message(message.get_type(), message)

    def stop_receive_message(self) -> None:
        """Leave the federation."""
        self.over = True
