"""Messages arrive whole and in order, or end the job; a rank sends to itself over the real MPI."""

import json
import queue
import struct
import threading
import time
import weakref
import zlib
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from mpi4py import MPI

from fedclip_plugin.errors import FederationError, PolicyError
from fedclip_plugin.federated.messages.fedml_messages import announced, encode
from fedclip_plugin.federated.messages.packing import packed_message, tensor_memory
from fedclip_plugin.federated.messages.packing.packed_message import HEADER_BYTES
from fedclip_plugin.federated.messages.transport import CountingTransport
from tests.support.messages import PARAMS, STATUS, TENSORS, UPDATE, expecting, message, note_of, with_tensors

LARGE = 3_000_000
"""Numbers in a tensor that MPI does not send before the receiver asks for it."""


class Handlers:
    """An observer that hands each message, but the one that says it is connected, to the next of ``steps``."""

    def __init__(self, transport, *steps):
        self.transport, self.steps, self.got = transport, list(steps), []

    def receive_message(self, kind, received):
        if kind in (STATUS, UPDATE):
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


def alone(comm, *updates, heard=lambda rank: None):
    """Return the transport of a rank that talks to itself."""
    return CountingTransport(comm, 0, 1, {0: "the only rank"}, expecting(*updates or [TENSORS]), heard)


def federate(comm, *steps, updates=()):
    """Run a rank that talks to itself: the first step begins, each further one takes a message; return those."""
    transport = alone(comm, *updates)
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
    monkeypatch.setattr(packed_message, "PIECE_BYTES", piece)
    monkeypatch.setattr(tensor_memory, "_LARGE_BYTES", large)
    large = OrderedDict(a=torch.randn(LARGE if piece > LARGE else 30_000), b=torch.randn(3))
    order = [with_tensors(large), message("small"), with_tensors(TENSORS), message("last")]
    transport, got = federate(comm, sending(*order), take, take, take, take, updates=[TENSORS, large])
    assert torch.equal(got[0].get(PARAMS)["a"], large["a"])
    assert torch.equal(got[2].get(PARAMS)["half"], TENSORS["half"])
    assert [note_of(received) for received in got] == [None, "small", None, "last"]
    assert transport.bytes_sent == transport.bytes_received == sum(len(encode(made)) for made in order)


def test_a_handler_hears_of_tensors_only_when_what_was_sent_is_gone(comm):
    slow = SlowSends(comm)
    gone = []

    def look(transport, received):
        gone.append(all(request.Test() for request in slow.requests))

    federate(slow, sending(message("no tensors"), with_tensors(TENSORS)), look, look)
    assert gone == [False, True]


@pytest.mark.parametrize("large", [2**25, 0])
def test_a_handler_can_make_room_while_it_works(comm, monkeypatch, large):
    monkeypatch.setattr(tensor_memory, "_LARGE_BYTES", large)
    alive = []

    def forget(transport, received):
        room = weakref.ref(received.get(PARAMS)["a"].untyped_storage())
        received.get(PARAMS).clear()
        alive.append(room() is not None)

    sent = OrderedDict(a=torch.ones(LARGE))
    federate(comm, sending(with_tensors(sent)), forget, updates=[sent])
    assert alive == [False], "no queue, thread or frame of the transport holds a message that was handed over"


def test_federations_follow_one_another_on_a_communicator(comm):
    before = threading.active_count()
    for number in range(3):
        transport, got = federate(comm, sending(message(f"n{number}")), take)
        assert [note_of(received) for received in got] == [f"n{number}"]
        assert transport.bytes_received == len(encode(message(f"n{number}"))), "bytes count from 0 again"
        assert threading.active_count() == before


def test_a_federation_takes_no_message_of_the_next(comm):
    first, second = (alone(comm) for _ in range(2))
    second.send_message(message("for the second"))
    second.settle()
    assert first.q_receiver.empty()
    assert note_of(second.q_receiver.get(timeout=5).message) == "for the second"
    first.stop_receive_message()
    second.stop_receive_message()


def test_a_message_that_nobody_reads_is_not_passed_over(comm):
    transport = alone(comm)
    transport.send_message(message("too late"))
    with pytest.raises(
        FederationError, match="the only rank left the federation with 1 unread message, the first from the only rank"
    ):
        transport.stop_receive_message()


def test_a_failure_between_messages_ends_the_job(comm, monkeypatch, capfd):
    ended = threading.Event()
    monkeypatch.setattr("fedclip_plugin.federated.stop.os._exit", lambda code: ended.set())
    transport = alone(Unwell(comm))
    assert ended.wait(5)
    transport._carrier.join()
    assert "the only rank, while messages travel: Traceback" in capfd.readouterr().err


def header(made, **changes):
    """Return a message's header, some of its values changed."""
    value = json.loads(encode(made).header[12:])
    value["value"].update(changes)
    text = json.dumps(value).encode()
    return b"fedclip\x02" + struct.pack("<I", zlib.crc32(text)) + text


NO_MESSAGES = {
    "nothing": (b"", "no message: it does not begin as a message does"),
    "noise": (b"GET / HTTP/1.1\r\n\r\n", "no message: it does not begin as a message does"),
    "Python's own bytes": (b"\x80\x04\x95\x0b\x00\x00\x00]\x94(K\x01K\x02e.", "no message: it does not begin as a"),
    "a torn header": (encode(message()).header[:-20], "no message: its header is damaged: the checksum is another one"),
    "a long header": (bytes(HEADER_BYTES + 1), "no message: its header has more than 16,777,216 bytes"),
    "too much": (
        header(with_tensors({"a": torch.zeros(3)}), model_params={"a": ["int8", [2**40]]}),
        "no message: it anno",
    ),
    "another sender": (encode(message(rank=2)).header, "a message in the name of rank 2; it is rank 0"),
    "no sender": (header(message(), sender=False), "no message: sender is False: must be an integer of 64 bits"),
    "another receiver": (header(message(), receiver=1), "rank 0 a message for rank 1"),
    "escapes": (
        header(message(), client_status="\x1b[2J"),
        r"client_status is \x1b[2J: must be one of ONLINE, FINISHED",
    ),
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
        (bytes(13), "a part has 13 bytes, 12 were announced"),
        (bytes(LARGE), "a part has 3,000,000 bytes, 12 were announced"),
    ],
)
def test_tensors_of_other_sizes_than_announced_end_the_job(comm, part, told, monkeypatch, capfd):
    sent = encode(with_tensors({"a": torch.zeros(3)})).header
    assert f"the only rank sent bytes that are no message: {told}" in end_of_job(comm, monkeypatch, capfd, sent, part)


@pytest.mark.parametrize("piece", [2**30, 1000])
def test_tensors_that_are_not_expected_are_received_and_thrown_away(comm, monkeypatch, piece):
    monkeypatch.setattr(packed_message, "PIECE_BYTES", piece)
    wrong = OrderedDict(a=torch.ones(4000), b=torch.ones(2))
    order = [with_tensors(wrong), with_tensors(TENSORS), message("last")]
    transport, got = federate(comm, sending(*order), take, take, take)
    assert got[0].get(PARAMS).reason == "tensors missing: half, nothing, part and 4 more; unknown: none"
    assert torch.equal(got[1].get(PARAMS)["turned"], TENSORS["turned"])
    assert note_of(got[2]) == "last"
    assert transport.bytes_sent == transport.bytes_received


def test_no_more_is_thrown_away_than_was_announced(comm, monkeypatch, capfd):
    sent = encode(with_tensors({"wrong": torch.zeros(3)})).header
    told = "a part has 13 bytes, 12 are left of those announced"
    assert told in end_of_job(comm, monkeypatch, capfd, sent, bytes(13))


def test_nothing_is_taken_from_who_has_nothing_to_say_here(comm, monkeypatch, capfd):
    ended = ending(monkeypatch)
    transport = CountingTransport(Stays(comm), 1, 2, {1: "silo art (rank 1)", 2: "the server"}, {}, print)
    request = comm.Isend(encode(message()).header, 0, transport._tag)
    assert ended.wait(5)
    transport._carrier.join()
    assert request is not None
    assert "silo art (rank 1), while messages travel: rank 0 sent something: nothing" in capfd.readouterr().err


def ending(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("fedclip_plugin.federated.stop.os._exit", lambda code: ended.set())
    return ended


def end_of_job(comm, monkeypatch, capfd, *parts):
    """Send a header and contents, and return how the receiver ends the job."""
    ended = ending(monkeypatch)
    transport = alone(Stays(comm), {"a": torch.zeros(3)})
    requests = [comm.Isend(part, 0, transport._tag + number) for number, part in enumerate(parts)]
    assert ended.wait(5)
    transport._carrier.join()
    assert transport.q_receiver.empty()
    assert len(requests) == len(parts)
    return capfd.readouterr().err


def test_a_message_that_does_not_come_holds_up_its_sender_alone():
    """Of two peers, one began to send and froze; what the other sends is handed over all the same."""
    transport, heard = object.__new__(CountingTransport), []
    transport._names, transport._heard, transport.q_receiver = {1: "frozen", 2: "well"}, heard.append, queue.Queue()
    headers = {rank: encode(message(rank=rank)).header for rank in (1, 2)}
    found = {rank: announced(header, expecting({}), rank, "it", rank) for rank, header in headers.items()}
    transport._arriving = [
        (SimpleNamespace(announced=found[source], source=source, contents=(), over=lambda there=there: there), 8)
        for source, there in [(1, False), (2, True), (1, True), (2, True)]
    ]
    transport._deliver()
    assert heard == [2, 2]
    assert [transport.q_receiver.get().message.get_sender_id() for _ in heard] == [2, 2]
    assert [arriving.source for arriving, _ in transport._arriving] == [1, 1], "of one peer, in order"


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


def test_what_is_sent_is_shown_before_it_leaves_and_nothing_leaves_when_that_raises(comm):
    shown = []

    def leaving(made, packed):
        shown.append(packed)
        if len(shown) > 2:
            raise PolicyError("not that")

    transport = CountingTransport(comm, 0, 1, {0: "the only rank"}, expecting(TENSORS), lambda rank: None, leaving)

    def send(received):
        transport.send_message(with_tensors(TENSORS))
        transport.send_message(message("small"))
        counted = transport.bytes_sent
        with pytest.raises(PolicyError, match="not that"):
            transport.send_message(message("kept back"))
        assert transport.bytes_sent == counted == sum(len(packed) for packed in shown[:2])

    handlers = Handlers(transport, send, lambda received: None, lambda received: None)
    transport.add_observer(handlers)
    transport.handle_receive_message()
    assert transport.bytes_received == transport.bytes_sent
    assert transport.q_receiver.empty()


def test_half_a_message_of_a_rank_that_is_given_up_does_not_hold_up_the_end(comm):
    transport = CountingTransport(
        comm, 0, 1, {0: "the only rank"}, expecting(TENSORS), lambda rank: None, look=lambda: None
    )
    request = comm.Isend(encode(with_tensors(TENSORS)).header, 0, transport._tag)
    while not transport._arriving:
        time.sleep(0.01)
    transport.give_up([0])
    transport.stop_receive_message()
    assert not transport._carrier.is_alive()
    assert request is not None
