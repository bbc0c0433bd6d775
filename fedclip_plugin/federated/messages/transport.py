"""FedML's MPI transport: counted, without copies, without idle polling, and closed without a message lost.

What differs from ``fedml.core.distributed.communication.mpi.MpiCommunicationManager``: tensors are sent from where they
lie and received where they stay (FedML pickles a message, and mpi4py pickles it again: six copies of it in a silo); no
send blocks; the bytes of each message are counted where they are sent and received; the main thread waits on the queue
instead of polling it 10,000 times a second; and an exception in the first handler is not swallowed.

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
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fedml.core.distributed.communication.constants import CommunicationConstants
from fedml.core.distributed.communication.message import Message
from fedml.core.distributed.communication.mpi.com_manager import MpiCommunicationManager
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.messages.local_transport import LocalTransport
from fedclip_plugin.federated.messages.wire_format import LABEL_BYTES, PackedMessage, decode, encode
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.text import told

_WAIT_SECONDS = 0.2
_IDLE_SECONDS, _BUSY_SECONDS = 1e-3, 5e-5
_FIRST_TAG, _TAGS = 10_000, 10_000  # MPI promises tags up to 32,767
_TAGS_EACH = 2
"""Of one transport: labels, and contents."""


_ROOM = 2**20
"""Bytes of tensors that a message may have besides two adapters: more than any codec adds."""


@dataclass(frozen=True)
class _Sending:
    """A parcel on its way out, and MPI's requests for its parts; the parcel keeps their memory."""

    parcel: PackedMessage
    requests: list[Any]

    def over(self) -> bool:
        """Return whether all parts have gone out."""
        return all(request.Test() for request in self.requests)


@dataclass(frozen=True)
class _Arriving:
    """A parcel on its way in, its sender's rank, and MPI's requests for the parts that are not there yet."""

    parcel: PackedMessage
    source: int
    parts: deque[tuple[Any, int]]

    def over(self) -> bool:
        """Return whether all parts have come in; a ValueError when one has another size than its label announced."""
        from mpi4py import MPI

        status = MPI.Status()
        while self.parts:
            request, size = self.parts[0]
            try:
                if not request.Test(status):
                    return False
            except MPI.Exception as error:
                if error.Get_error_class() != MPI.ERR_TRUNCATE:
                    raise
                raise ValueError(f"a part is longer than the {size:,} bytes announced") from error
            if (came := status.Get_count(MPI.BYTE)) != size:
                raise ValueError(f"a part has {came:,} bytes, {size:,} were announced")
            self.parts.popleft()
        return True


@dataclass(frozen=True)
class _Received:
    """A message, the bytes that it took, and whether it brings tensors."""

    message: Message
    size: int
    tensors: bool


def most_bytes(parameters: Mapping[str, Tensor]) -> int:
    """Return how many bytes of tensors a message about these parameters may have, whatever the codec."""
    return _ROOM + 2 * sum(tensor.nbytes for tensor in parameters.values())


class CountingTransport(MpiCommunicationManager):
    """Sends and receives FedML messages inside one mpirun job, for one federation.

    Messages are pickle, as FedML's own are: one trust domain, never open to a network. All ranks of the communicator
    make and stop their transports together; several federations may follow one another on the same communicator.

    Parameters
    ----------
    names
        Rank to name, of this rank and of those that may send to it; for complaints.
    most
        Most bytes of tensors that a message to this rank can have.
    heard
        Called with a peer's rank when a message from it has arrived, in a thread that must not be kept.
    """

    def __init__(
        self, comm: Any, rank: int, size: int, names: Mapping[int, str], most: int, heard: Callable[[int], None]
    ) -> None:
        self._names, self._most, self._heard = names, most, heard
        self.bytes_sent = 0
        self.bytes_received = 0
        self._tag = _next_tag(comm)
        self._sending: list[_Sending] = []
        self._sent = threading.Condition()  # guards _sending, and is notified when it is empty
        self._arriving: list[_Arriving] = []
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
        parcel, to = encode(msg), msg.get_receiver_id()
        self.bytes_sent += len(parcel)
        # Synchronous sends end when the receiver has begun to take them: what is over is not lost.
        requests = [self.comm.Issend(parcel.label, dest=to, tag=self._tag)]
        requests += [self.comm.Issend(piece, dest=to, tag=self._tag + 1) for piece in parcel.pieces()]
        with self._sent:
            self._sending.append(_Sending(parcel, requests))

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

        Messages that have arrived and no handler has seen are a FederationError.
        """
        self.settle()
        everybody = self.comm.Ibarrier()
        while not everybody.Test():
            time.sleep(_IDLE_SECONDS)
        self._closed.set()
        self._carrier.join()
        self._stop_running = True
        if count := self.q_receiver.qsize():
            first = self._names[self.q_receiver.get().message.get_sender_id()]
            raise FederationError(
                f"{self._names[self.rank]} left the federation with {count} messages unread, the first from {first}"
            )

    def _next(self) -> Message | None:
        """Return the next message as soon as there is one; None after a while without."""
        try:
            received = self.q_receiver.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            return None
        if received.tensors:
            self.settle()
        self.bytes_received += received.size
        return received.message

    def _carry(self) -> None:
        """Move messages in and out until the transport is closed; no other thread waits for MPI."""
        try:
            while not self._closed.is_set() or self._arriving:
                self._accept()
                self._deliver()
                with self._sent:
                    self._sending = [transfer for transfer in self._sending if not transfer.over()]
                    if not self._sending:
                        self._sent.notify_all()
                    busy = self._sending or self._arriving
                time.sleep(_BUSY_SECONDS if busy else _IDLE_SECONDS)
        except BaseException as error:
            stop_job(self.comm, f"{self._names[self.rank]}, while messages travel", error)

    def _accept(self) -> None:
        """Take the labels that have come, and begin to receive what they announce."""
        from mpi4py import MPI

        status = MPI.Status()
        while (message := self.comm.Improbe(tag=self._tag, status=status)) is not None:
            source, size = status.Get_source(), status.Get_count(MPI.BYTE)
            if source not in self._names:
                raise FederationError(f"rank {source} sent something: nothing from there is expected here")
            if not 0 <= size <= LABEL_BYTES:
                raise self._no_message(source, f"its label has more than {LABEL_BYTES:,} bytes")
            label = bytearray(size)
            message.Recv([label, MPI.BYTE])
            try:
                parcel = PackedMessage.expected(bytes(label), self._most)
            except ValueError as error:
                raise self._no_message(source, error) from error
            pieces = [(self.comm.Irecv([part, MPI.BYTE], source, self._tag + 1), len(part)) for part in parcel.pieces()]
            self._arriving.append(_Arriving(parcel, source, deque(pieces)))

    def _deliver(self) -> None:
        """Hand over what has come in whole: of one sender in order, whatever others still keep back."""
        still: list[_Arriving] = []
        for arriving in self._arriving:
            try:
                whole = all(arriving.source != other.source for other in still) and arriving.over()
            except ValueError as error:
                raise self._no_message(arriving.source, error) from error
            if not whole:
                still.append(arriving)
                continue
            parcel = arriving.parcel
            self.q_receiver.put(_Received(self._open(parcel, arriving.source), len(parcel), bool(parcel.contents)))
            self._heard(arriving.source)
        self._arriving = still

    def _open(self, parcel: PackedMessage, source: int) -> Message:
        """Return the message of a parcel from rank ``source``, if it is one and says so."""
        try:
            message = decode(parcel)
        except Exception as error:  # unpickling raises whatever the bytes make it raise
            raise self._no_message(source, f"{type(error).__name__}: {error}") from error
        params = getattr(message, "msg_params", None) if type(message) is Message else None
        if type(params) is not dict or type(params.get(Message.MSG_ARG_KEY_TYPE)) not in (int, str):
            raise self._no_message(source, f"it is a {type(message).__name__} without a type")
        senders = getattr(message, "sender_id", None), params.get(Message.MSG_ARG_KEY_SENDER)
        for claimed in senders:
            if type(claimed) is not int or claimed != source:
                name = self._names[source]
                raise FederationError(f"{name} sent a message in the name of rank {told(claimed)}; it is rank {source}")
        return message

    def _no_message(self, source: int, why: object) -> FederationError:
        return FederationError(f"{self._names[source]} sent bytes that are no message: {told(str(why), 200)}")


def open_transport(
    comm: Any, rank: int, size: int, names: Mapping[int, str], most: int, heard: Callable[[int], None]
) -> CountingTransport | LocalTransport:
    """Return the transport of a communicator, MPI's or a :class:`LocalComm`; the rest is as for the first."""
    if isinstance(comm, LocalComm):
        return LocalTransport(comm.network, rank, heard)
    return CountingTransport(comm, rank, size, names, most, heard)


def _next_tag(comm: Any) -> int:
    """Return the first of the tags of a transport: each on a communicator has its own.

    A rank may be in the next federation already while another still closes the last one.
    """
    count = comm.Get_attr(_attribute()) or 0
    comm.Set_attr(_attribute(), count + 1)
    return _FIRST_TAG + _TAGS_EACH * count % _TAGS


@cache
def _attribute() -> int:
    """Return the key under which a communicator keeps how many transports it has had."""
    from mpi4py import MPI

    key: int = MPI.Comm.Create_keyval()
    return key
