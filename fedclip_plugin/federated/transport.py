"""FedML's MPI transport: counted, without copies, without idle polling, and closed without a message lost.

What differs from ``fedml.core.distributed.communication.mpi.MpiCommunicationManager``: tensors are sent from where they
lie and received where they stay (FedML pickles a message, and mpi4py pickles it again: six copies of it in a silo); no
send blocks; the bytes of each message are counted where they are sent and received; the main thread waits on the queue
instead of polling it 10,000 times a second; and an exception in the first handler is not swallowed.

Since nothing is copied, whoever sends tensors must leave them alone until they are gone. Handlers need not care: before
a handler hears of tensors from others, all that this rank has sent is gone. So a handler may change any tensor *before*
it sends it, and the next handler may again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedml.core.distributed.communication.constants import CommunicationConstants
from fedml.core.distributed.communication.message import Message
from fedml.core.distributed.communication.mpi.com_manager import MpiCommunicationManager

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.guard import stop_job
from fedclip_plugin.federated.parcel import Parcel, decode, encode

_WAIT_SECONDS = 0.2
_IDLE_SECONDS, _BUSY_SECONDS = 1e-3, 5e-5
_FIRST_TAG, _TAGS = 10_000, 10_000  # MPI promises tags up to 32,767


@dataclass(frozen=True)
class _Transfer:
    """A parcel on its way, in or out, and MPI's requests for its parts."""

    parcel: Parcel
    requests: list[Any]

    def over(self) -> bool:
        """Return whether all parts have gone out, or come in."""
        return all(request.Test() for request in self.requests)


class CountingTransport(MpiCommunicationManager):
    """Sends and receives FedML messages inside one mpirun job, for one federation.

    Messages are pickle, as FedML's own are: one trust domain, never open to a network. All ranks of the communicator
    make and stop their transports together; several federations may follow one another on the same communicator.

    Attributes
    ----------
    bytes_sent, bytes_received
        Payload bytes of this federation so far.
    """

    def __init__(self, comm: Any, rank: int, size: int) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self._tag = _next_tag(comm)
        self._sending: list[_Transfer] = []
        self._sent = threading.Condition()  # guards _sending, and is notified when it is empty
        self._arriving: deque[_Transfer] = deque()
        self._closed = threading.Event()
        super().__init__(comm, rank, size)

    def init_server_communication(self) -> tuple[queue.Queue[Parcel], queue.Queue[Parcel]]:
        """Start the thread that moves parcels, in place of FedML's, and return FedML's pair of queues."""
        self.q_receiver: queue.Queue[Parcel] = queue.Queue()
        self._carrier = threading.Thread(target=self._carry, name="carrier", daemon=True)
        self._carrier.start()
        return queue.Queue(), self.q_receiver

    init_client_communication = init_server_communication

    def send_message(self, msg: Message) -> None:
        """Hand one message to MPI and go on; a blocking send would keep the server from the next silo."""
        parcel, to = encode(msg), msg.get_receiver_id()
        self.bytes_sent += len(parcel)
        # Synchronous sends end when the receiver has begun to take them: what is over is not lost.
        requests = [self.comm.Issend(parcel.label, dest=to, tag=self._tag)]
        requests += [self.comm.Issend(piece, dest=to, tag=self._tag + 1) for piece in parcel.pieces()]
        with self._sent:
            self._sending.append(_Transfer(parcel, requests))

    def settle(self) -> None:
        """Wait until all that was sent is gone, so that its tensors may be changed."""
        with self._sent:
            self._sent.wait_for(lambda: not self._sending)

    def handle_receive_message(self) -> None:
        """Run the handlers until :meth:`stop_receive_message`."""
        self.notify(Message(CommunicationConstants.MSG_TYPE_CONNECTION_IS_READY, self.rank, self.rank))
        while not self._stop_running:
            message = self._next()
            if message is not None:
                self.notify(message)
                del message  # the next one may need its room

    def stop_receive_message(self) -> None:
        """End this rank's part once every rank has sent and received everything.

        Raises
        ------
        FederationError
            When messages have arrived that no handler has seen.
        """
        self.settle()
        everybody = self.comm.Ibarrier()
        while not everybody.Test():
            time.sleep(_IDLE_SECONDS)
        self._closed.set()
        self._carrier.join()
        self._stop_running = True
        if count := self.q_receiver.qsize():
            raise FederationError(f"rank {self.rank} left the federation with {count} messages unread")

    def _next(self) -> Message | None:
        """Return the next message as soon as there is one; None after a while without."""
        try:
            parcel = self.q_receiver.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            return None
        if parcel.contents:
            self.settle()
        self.bytes_received += len(parcel)
        return decode(parcel)

    def _carry(self) -> None:
        """Move parcels in and out until the transport is closed; no other thread waits for MPI."""
        try:
            while not self._closed.is_set() or self._arriving:
                self._accept()
                while self._arriving and self._arriving[0].over():
                    self.q_receiver.put(self._arriving.popleft().parcel)
                with self._sent:
                    self._sending = [transfer for transfer in self._sending if not transfer.over()]
                    if not self._sending:
                        self._sent.notify_all()
                    busy = self._sending or self._arriving
                time.sleep(_BUSY_SECONDS if busy else _IDLE_SECONDS)
        except BaseException as error:
            stop_job(self.comm, f"rank {self.rank}, while messages travel", error)

    def _accept(self) -> None:
        """Take the labels that have come, and begin to receive what they announce."""
        from mpi4py import MPI

        status = MPI.Status()
        while (message := self.comm.Improbe(tag=self._tag, status=status)) is not None:
            label = bytearray(status.Get_count(MPI.BYTE))
            message.Recv([label, MPI.BYTE])
            parcel, sender = Parcel.expected(bytes(label)), status.Get_source()
            requests = [self.comm.Irecv([piece, MPI.BYTE], sender, self._tag + 1) for piece in parcel.pieces()]
            self._arriving.append(_Transfer(parcel, requests))


def _next_tag(comm: Any) -> int:
    """Return a tag of its own for each transport on a communicator; labels have this one, contents the next.

    A rank may be in the next federation already while another still closes the last one.
    """
    count = comm.Get_attr(_attribute()) or 0
    comm.Set_attr(_attribute(), count + 1)
    return _FIRST_TAG + 2 * count % _TAGS


@cache
def _attribute() -> int:
    """Return the key under which a communicator keeps how many transports it has had."""
    from mpi4py import MPI

    key: int = MPI.Comm.Create_keyval()
    return key
