"""Messages arrive whole and in order, or end the job; a rank sends to itself over the real MPI."""

import pickle
import queue
import struct
import threading
import time
import weakref
from collections import OrderedDict, deque
from types import SimpleNamespace

import pytest
import torch
from mpi4py import MPI

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages import wire_format
from fedclip_plugin.federated.messages.transport import CountingTransport, _Arriving
from fedclip_plugin.federated.messages.wire_format import LABEL_BYTES, encode
from tests.support.messages import PARAMS, TENSORS, message, with_tensors

LARGE = 3_000_000
"""Numbers in a tensor that MPI does not send before the receiver asks for it."""


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


def alone(comm, most=2**30, heard=lambda rank: None):
    """Return the transport of a rank that talks to itself."""
    return CountingTransport(comm, 0, 1, {0: "the only rank"}, most, heard)


def federate(comm, *steps):
    """Run a rank that talks to itself: the first step begins, each further one takes a message; return those."""
    transport = alone(comm)
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


@pytest.mark.parametrize(("piece", "large"), [(2**30, 2**25), (2**30, 0), (1000, 2**25)])
def test_messages_arrive_whole_and_in_order_over_mpi(comm, monkeypatch, piece, large):
    monkeypatch.setattr(wire_format, "PIECE_BYTES", piece)
    monkeypatch.setattr(wire_format, "_LARGE_BYTES", large)
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
    monkeypatch.setattr(wire_format, "_LARGE_BYTES", large)
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
    first, second = (alone(comm) for _ in range(2))
    second.send_message(message(note="for the second"))
    second.settle()
    assert first.q_receiver.empty()
    assert second.q_receiver.get(timeout=5).message.get("note") == "for the second"
    first.stop_receive_message()
    second.stop_receive_message()


def test_a_message_that_nobody_reads_is_not_passed_over(comm):
    transport = alone(comm)
    transport.send_message(message(note="too late"))
    with pytest.raises(
        FederationError, match="the only rank left the federation with 1 messages unread, the first from the only rank"
    ):
        transport.stop_receive_message()


def test_a_failure_between_messages_ends_the_job(comm, monkeypatch, capfd):
    ended = threading.Event()
    monkeypatch.setattr("fedclip_plugin.federated.stop.os._exit", lambda code: ended.set())
    transport = alone(Unwell(comm))
    assert ended.wait(5)
    transport._carrier.join()
    assert "the only rank, while messages travel: Traceback" in capfd.readouterr().err


def raw(made, **changes):
    """Return the bytes of a message without tensors, some of its attributes changed."""
    for key, value in changes.items():
        setattr(made, key, value)
    return encode(made).label


def without(made, key):
    del made.msg_params[key]
    return made


def label(*sizes, count=None, rest=b""):
    return (
        b"fedclip\x01"
        + struct.pack("<I", len(sizes) if count is None else count)
        + struct.pack(f"<{len(sizes)}Q", *sizes)
        + rest
    )


NO_MESSAGES = {
    "nothing": (b"", "no message: it does not begin as a message does"),
    "noise": (b"GET / HTTP/1.1\r\n\r\n", "no message: it does not begin as a message does"),
    "a pickle of its own": (pickle.dumps([1, 2]), "no message: it does not begin as a message does"),
    "no pickle": (label(0, rest=b"\x80\x05!\x1b[2J"), "no message: UnpicklingError: invalid load key, '!'"),
    "a torn pickle": (encode(message()).label[:-20], "no message: "),
    "a class that is not there": (label(0, rest=b"cnowhere\nnothing\n."), "no message: ModuleNotFoundError: No module"),
    "too few sizes": (label(8, count=2**32 - 1), "no message: it announces 4,294,967,295 tensors and ends before"),
    "too much": (label(2**62), "no message: it announces 4,611,686,018,427,387,904 bytes of tensors; here a message"),
    "a long label": (bytes(LABEL_BYTES + 1), "no message: its label has more than 4,194,304 bytes"),
    "a tensor of another size": (
        encode(with_tensors({"a": torch.zeros(3)})).label.replace(struct.pack("<Q", 12), struct.pack("<Q", 0)),
        "no message: RuntimeError: shape '[3]' is invalid for input of size 0",
    ),
    "a dict": (label(count=0, rest=pickle.dumps({"sender": 0})), "no message: it is a dict without a type"),
    "no type": (raw(without(message(), "msg_type")), "no message: it is a Message without a type"),
    "a type that is none": (raw(message(msg_type=[3])), "no message: it is a Message without a type"),
    "no parameters": (raw(message(), msg_params=None), "no message: it is a Message without a type"),
    "another sender": (raw(message(2)), "a message in the name of rank 2; it is rank 0"),
    "another sender inside": (raw(message(sender=1)), "a message in the name of rank 1; it is rank 0"),
    "another sender outside": (raw(message(), sender_id=1), "a message in the name of rank 1; it is rank 0"),
    "a sender that is no rank": (raw(message(), sender_id=False), "a message in the name of rank False; it is rank 0"),
}


@pytest.mark.parametrize(("sent", "told"), NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_bytes_that_are_no_message_end_the_job_by_their_senders_name(comm, sent, told, monkeypatch, capfd):
    err = end_of_job(comm, monkeypatch, capfd, sent)
    assert err.startswith("fedclip: the job stops: the only rank, while messages travel: the only rank sent ")
    assert told in err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (bytes(3), "a part has 3 bytes, 12 were announced"),
        (bytes(13), "a part is longer than the 12 bytes announced"),
    ],
)
def test_tensors_of_other_sizes_than_announced_end_the_job(comm, part, told, monkeypatch, capfd):
    sent = encode(with_tensors({"a": torch.zeros(3)})).label
    assert f"the only rank sent bytes that are no message: {told}" in end_of_job(comm, monkeypatch, capfd, sent, part)


def test_nothing_is_taken_from_who_has_nothing_to_say_here(comm, monkeypatch, capfd):
    ended = ending(monkeypatch)
    transport = CountingTransport(Stays(comm), 1, 2, {1: "silo art (rank 1)", 2: "the server"}, 0, print)
    request = comm.Isend(encode(message()).label, 0, transport._tag)
    assert ended.wait(5)
    transport._carrier.join()
    assert request is not None
    assert "silo art (rank 1), while messages travel: rank 0 sent something: nothing" in capfd.readouterr().err


def ending(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("fedclip_plugin.federated.stop.os._exit", lambda code: ended.set())
    return ended


def end_of_job(comm, monkeypatch, capfd, *parts):
    """Send a label and contents, and return how the receiver ends the job."""
    ended = ending(monkeypatch)
    transport = alone(Stays(comm), most=10**6)
    requests = [comm.Isend(part, 0, transport._tag + number) for number, part in enumerate(parts)]
    assert ended.wait(5)
    transport._carrier.join()
    assert transport.q_receiver.empty()
    assert len(requests) == len(parts)
    return capfd.readouterr().err


def test_a_message_that_does_not_come_holds_up_its_sender_alone():
    """Of two peers, one began to send and froze; what the other sends is handed over all the same."""
    transport, heard, parcel = object.__new__(CountingTransport), [], [encode(message(rank)) for rank in (0, 1, 2)]
    transport._names, transport._heard, transport.q_receiver = {1: "frozen", 2: "well"}, heard.append, queue.Queue()
    stuck = SimpleNamespace(Test=lambda status: False)
    parts = [(1, [(stuck, 8)]), (2, []), (1, []), (2, [])]
    transport._arriving = [_Arriving(parcel[source], source, deque(waits)) for source, waits in parts]
    transport._deliver()
    assert heard == [2, 2]
    assert [transport.q_receiver.get().message.get_sender_id() for _ in heard] == [2, 2]
    assert [arriving.source for arriving in transport._arriving] == [1, 1], "of one peer, in order"


def test_who_has_answered_is_known_while_handlers_wait_for_a_peer_that_takes_nothing(comm):
    heard, taken = [], threading.Event()
    transport = alone(AdapterInputs(comm, taken), heard=heard.append)
    handlers = Handlers(transport, *[sending_now(transport), lambda received: None, lambda received: None])
    transport.add_observer(handlers)
    loop = threading.Thread(target=transport.handle_receive_message)
    loop.start()
    while len(heard) < 2:
        time.sleep(0.001)
    assert handlers.got == [], "its handler waits until what was sent is gone"
    taken.set()
    loop.join(5)
    assert len(handlers.got) == 2


def sending_now(transport):
    return lambda received: [transport.send_message(with_tensors(TENSORS)) for _ in range(2)]


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


class Stays(Wrapped):
    """A communicator that lives on when the job is ended."""

    def Abort(self, code):
        return None


class AdapterInputs(Wrapped):
    """A communicator whose sends are over when an event says so."""

    def __init__(self, comm, taken):
        super().__init__(comm)
        self.taken = taken

    def Issend(self, *arguments, **rest):
        request = self.comm.Issend(*arguments, **rest)
        return SimpleNamespace(Test=lambda: request.Test() and self.taken.is_set())


class SlowSends(Wrapped):
    """A communicator whose sends are over late."""

    def __init__(self, comm):
        super().__init__(comm)
        self.requests = []

    def Issend(self, *arguments, **rest):
        request, over = self.comm.Issend(*arguments, **rest), time.monotonic() + 0.3
        self.requests.append(SimpleNamespace(Test=lambda: request.Test() and time.monotonic() > over))
        return self.requests[-1]
