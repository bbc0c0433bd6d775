"""FedML's MPI transport, counted and without its idle polling.

What differs from ``fedml.core.distributed.communication.mpi.MpiCommunicationManager``: tensors travel as numpy arrays
(pickling a 2 MB adapter takes a fraction of the time), sends do not block, the bytes of each message are counted where
they are sent and received, the main thread waits on the queue instead of polling it 10,000 times a second, and an
exception in the first handler is not swallowed.
"""

from __future__ import annotations

import pickle
import queue
from collections import OrderedDict
from typing import Any

import torch
from fedml.core.distributed.communication.constants import CommunicationConstants
from fedml.core.distributed.communication.message import Message
from fedml.core.distributed.communication.mpi.com_manager import MpiCommunicationManager

_WAIT_SECONDS = 0.2
_PARAMS = Message.MSG_ARG_KEY_MODEL_PARAMS


class CountingTransport(MpiCommunicationManager):
    """Sends and receives FedML messages inside one mpirun job.

    Messages are pickle, as FedML's own are: one trust domain, never open to a network.

    Attributes
    ----------
    bytes_sent, bytes_received
        Payload bytes so far.
    """

    def __init__(self, comm: Any, rank: int, size: int) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self._sending: list[Any] = []  # MPI requests
        super().__init__(comm, rank, size)

    def send_message(self, msg: Message) -> None:
        """Hand one message to MPI and go on; a blocking send would keep the server from the next silo."""
        payload = encode(msg)
        self.bytes_sent += len(payload)
        self._sending = [request for request in self._sending if not request.test()[0]]
        self._sending.append(self.comm.isend(payload, dest=msg.get_receiver_id()))

    def stop_receive_message(self) -> None:
        """End the receive loop once everything that was sent has gone out."""
        for request in self._sending:
            request.wait()
        super().stop_receive_message()

    def handle_receive_message(self) -> None:
        """Run the handlers until :meth:`stop_receive_message`."""
        first = Message(CommunicationConstants.MSG_TYPE_CONNECTION_IS_READY, self.rank, self.rank)
        self.notify(first)
        while not self._stop_running:
            try:
                payload = self.q_receiver.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue
            self.bytes_received += len(payload)
            self.notify(decode(payload))

    def _free_q(self, q: queue.Queue[bytes]) -> None:
        # The original calls Queue.get_no_wait, which does not exist.
        while not q.empty():
            q.get_nowait()


def encode(message: Message) -> bytes:
    """Return a message as bytes, its tensors as numpy arrays."""
    params = message.get(_PARAMS)
    if params is None:
        return pickle.dumps(message, protocol=5)
    light = Message(message.get_type(), message.get_sender_id(), message.get_receiver_id())
    light.msg_params = dict(message.get_params())
    light.msg_params[_PARAMS] = [(name, _to_array(value)) for name, value in params.items()]
    return pickle.dumps(light, protocol=5)


def decode(payload: bytes) -> Message:
    """Return the message that :func:`encode` was given."""
    message: Message = pickle.loads(payload)
    params = message.get(_PARAMS)
    if params is not None:
        message.add_params(_PARAMS, OrderedDict((name, _to_tensor(value)) for name, value in params))
    return message


def _to_array(value: Any) -> Any:
    # bfloat16 has no numpy type: such tensors travel as they are.
    return value.numpy() if isinstance(value, torch.Tensor) and value.dtype != torch.bfloat16 else value


def _to_tensor(value: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(value)
