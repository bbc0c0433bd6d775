"""FedML's MPI transport: counted, without copies, without idle polling, and closed without a message lost.

What differs from ``fedml.core.distributed.communication.mpi.MpiCommunicationManager``: a message is a header of typed
JSON and the bytes of its tensors, and is compared with what is expected here before its tensors are received (FedML
sends whole Python objects, which can run code where they arrive); tensors are sent from where they lie and received
where they stay; no send blocks; the bytes of each message are counted where they are sent and received; the main thread
waits on the queue instead of polling it 10,000 times a second; and an exception in the first handler is not swallowed.

Since nothing is copied, whoever sends tensors must leave them alone until they are gone. Handlers need not care: before
a handler hears of tensors from others, all that this rank has sent is gone. So a handler may change any tensor *before*
it sends it, and the next handler may again. A peer that takes nothing thus keeps the handlers waiting; who has answered
is known all the same, for that is said when a message has arrived, and one peer's message never waits for another's.

MPI knows who sent what. Bytes that are no message, and a message that names another sender, end the job by that name.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedml.core.distributed.communication.constants import CommunicationConstants
from fedml.core.distributed.communication.message import Message
from fedml.core.distributed.communication.mpi.com_manager import MpiCommunicationManager

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.messages.fedml_messages import announced, decode, encode, no_message
from fedclip_plugin.federated.messages.local_transport import Leaving, LocalTransport, unseen
from fedclip_plugin.federated.messages.packing.mpi_transfer import (
    TAGS_EACH,
    Arriving,
    LongHeaderError,
    Sending,
    arrived_header,
)
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.text import counted

_WAIT_SECONDS = 0.2
_IDLE_SECONDS, _BUSY_SECONDS = 1e-3, 5e-5
_FIRST_TAG, _TAGS = 10_000, 10_000  # MPI promises tags up to 32,767

_unfinished: list[Sending | Arriving] = []
"""Messages to and from ranks that were given up: MPI may read and write their memory until this process ends."""


@dataclass(frozen=True)
class _Received:
    """A message, the bytes that it took, and whether it brings tensors."""

    message: Message
    size: int
    tensors: bool


class CountingTransport(MpiCommunicationManager):
    """Sends and receives FedML messages inside one mpirun job, for one federation.

    All ranks of the communicator make and stop their transports together; several federations may follow one another on
    the same communicator.

    Parameters
    ----------
    names
        Rank to name, of this rank and of those that may send to it; for complaints.
    expected
        The kinds of messages that this rank takes.
    heard
        Called with a peer's rank when a message from it has arrived, in a thread that must not be kept.
    leaving
        Called with a message, and as it is packed, before it is sent; when it raises, nothing is.
    look
        Where it is given, it is called several times a second between messages, and no rank waits for the others: what
        it sends must stay as it is, and it leaves as soon as all of that is gone.
    """

    def __init__(
        self,
        comm: Any,
        rank: int,
        size: int,
        names: Mapping[int, str],
        expected: Mapping[str, ExpectedKind],
        heard: Callable[[int], None],
        leaving: Leaving = unseen,
        look: Callable[[], None] | None = None,
    ) -> None:
        self._names, self._expected, self._heard, self._leaving = names, expected, heard, leaving
        self._look, self._given_up = look, frozenset[int]()
        self.bytes_sent = 0
        self.bytes_received = 0
        self._tag = _next_tag(comm)
        self._sending: list[Sending] = []
        self._sent = threading.Condition()  # guards _sending, and is notified when it is empty
        self._arriving: list[tuple[Arriving, int]] = []  # with the bytes of the whole message
        self._closed = threading.Event()
        super().__init__(comm, rank, size)

    def init_server_communication(self) -> tuple[queue.Queue[_Received], queue.Queue[_Received]]:
        """Start the thread that moves messages, in place of FedML's, and return FedML's pair of queues."""
        self.q_receiver: queue.Queue[_Received] = queue.Queue()
        self._carrier = threading.Thread(target=self._carry, name="carrier", daemon=True)
        self._carrier.start()
        return queue.Queue(), self.q_receiver

    init_client_communication = init_server_communication

    def send_message(self, msg: Message) -> None:
        """Hand one message to MPI and go on; a blocking send would keep the server from the next silo."""
        packed = encode(msg)
        self._leaving(msg, packed)
        self.bytes_sent += len(packed)
        sending = Sending.begin(self.comm, packed, msg.get_receiver_id(), self._tag)
        with self._sent:
            self._sending.append(sending)

    def give_up(self, ranks: Iterable[int]) -> None:
        """Leave without what these ranks have not taken."""
        self._given_up = frozenset(ranks)

    def settle(self) -> None:
        """Wait until all that was sent is gone, so that its tensors may be changed."""
        with self._sent:
            self._sent.wait_for(lambda: all(sending.to in self._given_up for sending in self._sending))

    def handle_receive_message(self) -> None:
        """Run the handlers until :meth:`stop_receive_message`."""
        self.notify(Message(CommunicationConstants.MSG_TYPE_CONNECTION_IS_READY, self.rank, self.rank))
        while not self._stop_running:
            message = self._next()
            if message is not None:
                self.notify(message)
                del message  # the next one may need its room
            if self._look is not None and not self._stop_running and self.q_receiver.empty():
                self._look()

    def stop_receive_message(self) -> None:
        """End this rank's part once every rank has sent and received everything, or this one where none waits.

        Messages that have arrived and no handler has seen are a FederationError, but for those of ranks given up.
        """
        self.settle()
        everybody = self.comm.Ibarrier() if self._look is None else None
        while everybody is not None and not everybody.Test():
            time.sleep(_IDLE_SECONDS)
        self._closed.set()
        self._carrier.join()
        self._stop_running = True
        senders = [self.q_receiver.get().message.get_sender_id() for _ in range(self.q_receiver.qsize())]
        if unread := [self._names[sender] for sender in senders if sender not in self._given_up]:
            many = counted(len(unread), "unread message")
            raise FederationError(
                f"{self._names[self.rank]} left the federation with {many}, the first from {unread[0]}"
            )

    def _next(self) -> Message | None:
        """Return the next message as soon as there is one; None after a while without."""
        try:
            received = self.q_receiver.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            return None
        if received.tensors and self._look is None:
            self.settle()
        self.bytes_received += received.size
        return received.message

    def _carry(self) -> None:
        """Move messages in and out until the transport is closed; no other thread waits for MPI."""
        try:
            while not self._closed.is_set() or any(own.source not in self._given_up for own, _ in self._arriving):
                self._accept()
                self._deliver()
                with self._sent:
                    self._sending = [transfer for transfer in self._sending if not transfer.over()]
                    self._sent.notify_all()
                    busy = self._sending or self._arriving
                time.sleep(_BUSY_SECONDS if busy else _IDLE_SECONDS)
            _unfinished.extend([*self._sending, *(own for own, _ in self._arriving)])
        except BaseException as error:
            stop_job(self.comm, f"{self._names[self.rank]}, while messages travel", error)

    def _accept(self) -> None:
        """Take the headers that have come, and begin to receive what they announce."""
        while (arrived := self._header()) is not None:
            header, source = arrived
            if source not in self._names:
                raise FederationError(f"rank {source} sent something: nothing from there is expected here")
            found = announced(header, self._expected, source, self._names[source], self.rank)
            arriving = Arriving(self.comm, found, source, self._tag)
            self._arriving.append((arriving, len(header) + arriving.size))

    def _header(self) -> tuple[bytes, int] | None:
        try:
            return arrived_header(self.comm, None, self._tag)
        except LongHeaderError as error:
            raise no_message(self._names.get(error.sender, f"rank {error.sender}"), error) from error

    def _deliver(self) -> None:
        """Hand over what has come in whole: of one sender in order, whatever others still keep back."""
        still: list[tuple[Arriving, int]] = []
        for arriving, size in self._arriving:
            try:
                if any(arriving.source == other.source for other, _ in still) or not arriving.over():
                    still.append((arriving, size))
                    continue
                message = decode(arriving.announced, arriving.contents)
            except ValueError as error:
                raise no_message(self._names[arriving.source], error) from error
            self.q_receiver.put(_Received(message, size, bool(arriving.contents)))
            del message
            self._heard(arriving.source)
        self._arriving = still


def open_transport(
    comm: Any,
    rank: int,
    size: int,
    names: Mapping[int, str],
    expected: Mapping[str, ExpectedKind],
    heard: Callable[[int], None],
    leaving: Leaving = unseen,
    look: Callable[[], None] | None = None,
) -> CountingTransport | LocalTransport:
    """Return the transport of a communicator, MPI's or a :class:`LocalComm`; the rest is as for the first."""
    if isinstance(comm, LocalComm):
        return LocalTransport(comm.network, rank, names, expected, heard, leaving)
    return CountingTransport(comm, rank, size, names, expected, heard, leaving, look)


def _next_tag(comm: Any) -> int:
    """Return the first of the tags of a transport: each on a communicator has its own.

    A rank may be in the next federation already while another still closes the last one.
    """
    count = comm.Get_attr(_attribute()) or 0
    comm.Set_attr(_attribute(), count + 1)
    return _FIRST_TAG + TAGS_EACH * count % _TAGS


@cache
def _attribute() -> int:
    """Return the key under which a communicator keeps how many transports it has had."""
    from mpi4py import MPI

    key: int = MPI.Comm.Create_keyval()
    return key
