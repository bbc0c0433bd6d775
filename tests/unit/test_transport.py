"""Messages come back as they were sent, tensors without a copy; a rank sends to itself over the real MPI."""

import pickle
import threading
import time
import weakref
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fedml.core.distributed.communication.message import Message
from mpi4py import MPI

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated import parcel as parcels
from fedclip_plugin.federated.messages import REPORT, SiloReport
from fedclip_plugin.federated.parcel import Parcel, decode, encode
from fedclip_plugin.federated.task import Score
from fedclip_plugin.federated.transport import CountingTransport

PARAMS = Message.MSG_ARG_KEY_MODEL_PARAMS
LARGE = 3_000_000
"""Numbers in a tensor that MPI does not send before the receiver asks for it."""


def message(rank=0, **params):
    made = Message(3, rank, rank)
    for key, value in params.items():
        made.add_params(key, value)
    return made


def with_tensors(tensors):
    return message(**{PARAMS: tensors})


class Handlers:
    """An observer that hands each message, but the one that says it is connected, to the next of ``steps``."""

    def __init__(self, transport, *steps):
        self.transport, self.steps, self.got = transport, list(steps), []

    def receive_message(self, kind, received):
        if kind == 3:
            self.got.append(received)
        step = self.steps.pop(0)
        step(received)
        if not self.steps:
            self.transport.stop_receive_message()


@pytest.fixture
def comm():
    own = MPI.COMM_SELF.Dup()
    yield own
    own.Free()


def federate(comm, *steps):
    """Run a rank that talks to itself: the first step begins, each further one takes a message; return those."""
    transport = CountingTransport(comm, 0, 1)
    handlers = Handlers(transport, *[lambda received, step=step: step(transport, received) for step in steps])
    transport.add_observer(handlers)
    transport.handle_receive_message()
    return transport, handlers.got


def take(transport, received):
    """Do nothing with a message."""


def sending(*messages):
    def send(transport, received):
        for made in messages:
            transport.send_message(made)

    return send


TENSORS = OrderedDict(
    b=torch.randn(3, 4),
    a=torch.randn(5).double(),
    half=torch.randn(2, 3).bfloat16(),
    whole=torch.arange(4, dtype=torch.int8),
    turned=torch.randn(4, 6).T,
    part=torch.randn(9)[3:7],
    scalar=torch.tensor(1.5),
    nothing=torch.empty(0, 7),
    true=torch.tensor([True, False]),
)


def test_an_adapter_travels_bit_by_bit_and_in_order():
    sent = with_tensors(TENSORS)
    sent.add_params(REPORT, report := SiloReport("art", 2, Score(1, 2), Score(3, 4), train_loss=0.1))
    back = decode(encode(sent))
    assert (back.get_type(), back.get_sender_id(), back.get_receiver_id()) == (3, 0, 0)
    assert list(back.get(PARAMS)) == list(TENSORS)
    assert type(back.get(PARAMS)) is OrderedDict
    for name, tensor in TENSORS.items():
        assert torch.equal(back.get(PARAMS)[name], tensor)
        assert back.get(PARAMS)[name].dtype == tensor.dtype
    assert back.get(REPORT) == report
    assert sent.get(PARAMS) is TENSORS, "the message itself is left alone"


def test_tensors_anywhere_in_a_message_and_arrays_travel():
    back = decode(encode(message(state={"m": [torch.ones(2)]}, array=np.arange(3))))
    assert torch.equal(back.get("state")["m"][0], torch.ones(2))
    assert back.get("array").tolist() == [0, 1, 2]


def test_a_trained_parameter_travels_as_a_plain_tensor():
    back = decode(encode(with_tensors(OrderedDict(a=torch.nn.Parameter(torch.ones(2)))))).get(PARAMS)["a"]
    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_neither_end_copies_a_tensor():
    tensor = torch.zeros(5)
    parcel = encode(with_tensors(OrderedDict(a=tensor)))
    received = decode(parcel).get(PARAMS)["a"]
    received += 1
    assert torch.equal(tensor, torch.ones(5)), "sender, parcel and receiver share the memory"


def test_a_label_announces_the_contents():
    parcel = encode(with_tensors(TENSORS))
    room = Parcel.expected(parcel.label)
    assert [content.nbytes for content in room.contents] == [content.nbytes for content in parcel.contents]
    assert len(room) == len(parcel)


@pytest.mark.parametrize("count", [1, 525_312])
def test_a_message_is_hardly_larger_than_its_tensors(count):
    assert 4 * count < len(encode(with_tensors(OrderedDict(a=torch.zeros(count))))) < 4 * count + 1000


def test_a_message_without_an_adapter_is_one_label():
    parcel = encode(message(client_status="ONLINE"))
    assert parcel.contents == ()
    assert decode(parcel).get("client_status") == "ONLINE"
    assert pickle.loads(parcel.label)[0] == []


def test_contents_go_in_pieces_that_mpi_can_count(monkeypatch):
    monkeypatch.setattr(parcels, "PIECE_BYTES", 1000)
    parcel = encode(with_tensors(OrderedDict(a=torch.zeros(600), b=torch.zeros(3), c=torch.zeros(0))))
    assert [piece.nbytes for piece in parcel.pieces()] == [1000, 1000, 400, 12]


@pytest.mark.parametrize(("piece", "large"), [(2**30, 2**25), (2**30, 0), (1000, 2**25)])
def test_messages_arrive_whole_and_in_order_over_mpi(comm, monkeypatch, piece, large):
    monkeypatch.setattr(parcels, "PIECE_BYTES", piece)
    monkeypatch.setattr(parcels, "_LARGE_BYTES", large)
    large = OrderedDict(a=torch.randn(LARGE if piece > LARGE else 30_000), b=torch.randn(3))
    order = [with_tensors(large), message(note="small"), with_tensors(TENSORS), message(note="last")]
    transport, got = federate(comm, sending(*order), take, take, take, take)
    assert torch.equal(got[0].get(PARAMS)["a"], large["a"])
    assert torch.equal(got[2].get(PARAMS)["half"], TENSORS["half"])
    assert [received.get("note") for received in got] == [None, "small", None, "last"]
    assert transport.bytes_sent == transport.bytes_received == sum(len(encode(made)) for made in order)


def test_a_handler_hears_of_tensors_only_when_what_was_sent_is_gone(comm):
    slow = SlowSends(comm)
    gone = []

    def look(transport, received):
        gone.append(all(request.Test() for request in slow.requests))

    federate(slow, sending(message(note="no tensors"), with_tensors(TENSORS)), look, look)
    assert gone == [False, True]


@pytest.mark.parametrize("large", [2**25, 0])
def test_a_handler_can_make_room_while_it_works(comm, monkeypatch, large):
    monkeypatch.setattr(parcels, "_LARGE_BYTES", large)
    alive = []

    def forget(transport, received):
        room = weakref.ref(received.get(PARAMS)["a"].untyped_storage())
        received.get(PARAMS).clear()
        alive.append(room() is not None)

    federate(comm, sending(with_tensors(OrderedDict(a=torch.ones(LARGE)))), forget)
    assert alive == [False], "no queue, thread or frame of the transport holds a message that was handed over"


def test_federations_follow_one_another_on_a_communicator(comm):
    before = threading.active_count()
    for number in range(3):
        transport, got = federate(comm, sending(message(note=number)), take)
        assert [received.get("note") for received in got] == [number]
        assert transport.bytes_received == len(encode(message(note=number))), "bytes count from 0 again"
        assert threading.active_count() == before


def test_a_federation_takes_no_message_of_the_next(comm):
    first, second = (CountingTransport(comm, 0, 1) for _ in range(2))
    second.send_message(message(note="for the second"))
    second.settle()
    assert first.q_receiver.empty()
    assert decode(second.q_receiver.get(timeout=5)).get("note") == "for the second"
    first.stop_receive_message()
    second.stop_receive_message()


def test_a_message_that_nobody_reads_is_not_passed_over(comm):
    transport = CountingTransport(comm, 0, 1)
    transport.send_message(message(note="too late"))
    with pytest.raises(FederationError, match="rank 0 left the federation with 1 messages unread"):
        transport.stop_receive_message()


def test_a_failure_between_messages_ends_the_job(comm, monkeypatch, capfd):
    ended = threading.Event()
    monkeypatch.setattr("fedclip_plugin.federated.guard.os._exit", lambda code: ended.set())
    transport = CountingTransport(Unwell(comm), 0, 1)
    assert ended.wait(5)
    transport._carrier.join()
    assert "rank 0, while messages travel: Traceback" in capfd.readouterr().err


class Wrapped:
    """A communicator like another."""

    def __init__(self, comm):
        self.comm = comm

    def __getattr__(self, name):
        return getattr(self.comm, name)


class Unwell(Wrapped):
    """A communicator that fails as soon as somebody looks for a message."""

    def Improbe(self, **rest):
        raise OSError("the network is gone")

    def Abort(self, code):
        return None


class SlowSends(Wrapped):
    """A communicator whose sends are over late."""

    def __init__(self, comm):
        super().__init__(comm)
        self.requests = []

    def Issend(self, *arguments, **rest):
        request, over = self.comm.Issend(*arguments, **rest), time.monotonic() + 0.3
        self.requests.append(SimpleNamespace(Test=lambda: request.Test() and time.monotonic() > over))
        return self.requests[-1]
