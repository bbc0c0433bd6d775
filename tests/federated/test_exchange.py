"""Messages outside of a federation: whoever is late, frozen, or of another mind is named, and nobody waits for ever."""

import struct
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.managers.watchdog import together
from fedclip_plugin.federated.messages import exchange as module
from fedclip_plugin.federated.messages.exchange import Exchange, packed
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout
from fedclip_plugin.federated.startup.rank_status import exchange_status, go_on
from fedclip_plugin.federated.startup.start_messages import GoOn, Present
from tests.support.mpi_world import World, tell

NAMES = ("server", "photo", "a\x1brt")
NEVER = SimpleNamespace(Test=lambda: False)
DONE = SimpleNamespace(Test=lambda: True)


@pytest.fixture(autouse=True)
def leaving(monkeypatch):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", leave)


def server(limit=0.1):
    comm = World(3).rank(0)
    return comm, Exchange(comm, NAMES, limit, "before round 1")


@dataclass(frozen=True)
class Update:
    number: int
    tensors: Mapping[str, NDArray[Any]]


UPDATE = Update(3, {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7, np.int32)})
LAYOUTS = {Update: [TensorLayout.like(UPDATE.tensors, "tensors.")]}


def sealed(text):
    return b"fedclip\x02" + struct.pack("<I", zlib.crc32(text)) + text


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([b"\x80\x04]\x94(K\x01K\x02e."], "it does not begin as a message does"),
        ([bytes(2**24 + 1)], "its header has more than 16,777,216 bytes"),
        ([packed(Present()).header[:-1]], "its header is damaged: the checksum is another one"),
        ([sealed(b'{"kind":"Present","value":{"recipe":""}}')], "it has fields missing: fault; unknown: none"),
        ([sealed(b'{"kind":"Present","value":{"recipe":1,"fault":""}}')], "recipe is 1: must be text"),
    ],
)
def test_bytes_that_are_no_message_end_the_job_by_their_senders_name(sent, told, capfd):
    comm, exchange = server(5.0)
    for number, content in enumerate(sent):
        comm.world.rank(2).Issend(content, dest=0, tag=7302 + number)
    with pytest.raises(SystemExit):
        exchange.from_silos(Present)
    assert capfd.readouterr().err == (
        "fedclip: the job stops: server (rank 0), before round 1: a\\x1brt (rank 2) sent bytes that are no message: "
        f"{told}\n"
    )


def test_arrays_travel_beside_the_header_and_are_compared_with_what_is_expected(capfd):
    world, got = World(2), []

    def act(comm):
        exchange = Exchange(comm, NAMES, 5.0, "in a round", layouts=LAYOUTS)
        if comm.number == 0:
            got.extend(exchange.from_silos(Update))
        else:
            exchange.to_server(UPDATE)

    assert world.together(act) == [None, None]
    assert got[0].number == 3
    assert {name: array.tolist() for name, array in got[0].tensors.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": 7}
    for harmed, told in {
        "b": "tensors missing: b; unknown: none",
        "a": "a is float64 [3], expected float64 [2, 3]",
    }.items():
        tensors = UPDATE.tensors | {"a": np.zeros(3)} if harmed == "a" else {"a": UPDATE.tensors["a"]}
        comm = World(2).rank(0)
        tell(comm.world.rank(1), Update(3, tensors), 0)
        with pytest.raises(SystemExit):
            Exchange(comm, NAMES, 5.0, "in a round", layouts=LAYOUTS).from_silos(Update)
        assert f"photo (rank 1) sent bytes that are no message: {told}" in capfd.readouterr().err


def test_a_part_of_another_length_is_not_received(capfd):
    comm = World(2).rank(0)
    comm.world.rank(1).Issend(packed(UPDATE).header, dest=0, tag=7302)
    comm.world.rank(1).Issend(bytes(1000), dest=0, tag=7303)
    with pytest.raises(SystemExit):
        Exchange(comm, NAMES, 5.0, "in a round", layouts=LAYOUTS).from_silos(Update)
    assert "photo (rank 1) sent bytes that are no message: a part has 1,000 bytes, 48 were" in capfd.readouterr().err


def test_a_silo_that_does_not_send_what_it_announced_is_named(capfd):
    comm = World(2).rank(0)
    comm.world.rank(1).Issend(packed(UPDATE).header, dest=0, tag=7302)
    with pytest.raises(SystemExit):
        Exchange(comm, NAMES, 0.1, "in a round", layouts=LAYOUTS).from_silos(Update)
    assert "no sign of photo within 0 s" in capfd.readouterr().err


def test_a_silo_that_takes_nothing_is_named_and_no_other(capfd):
    """It has sent its own, and is frozen: to MPI a small message to it is gone at once, but nobody reads it."""
    comm, exchange = server()
    comm.Issend = lambda content, dest, tag: NEVER if dest == 2 else DONE
    with pytest.raises(SystemExit):
        exchange.to_silos([GoOn()] * 3)
    assert comm.world.codes == [1]
    assert "no sign of a\\x1brt within 0 s (fedclip_args.start_timeout)" in capfd.readouterr().err


def test_a_silo_whose_server_takes_nothing_says_so(capfd):
    comm = World(3).rank(1)
    comm.Issend = lambda content, dest, tag: NEVER
    with pytest.raises(SystemExit):
        Exchange(comm, NAMES, 0.1, "between federations").to_server(Present())
    assert "photo (rank 1), between federations: no sign of server" in capfd.readouterr().err


def lenient():
    """Return the server's end of an exchange that two silos will do for, and one more rank that says nothing."""
    comm = World(4).rank(0)
    return comm, Exchange(comm, ("server", *"abc"), 60.0, "after the last round", leniency=(2, 0.1))


def test_who_answers_too_late_is_not_there_any_more():
    comm, exchange = lenient()
    for rank in (1, 3):
        tell(comm.world.rank(rank), GoOn(), 0)
    assert exchange.from_silos(GoOn) == [GoOn()] * 2
    assert exchange.silos == [1, 3]
    tell(comm.world.rank(1), GoOn(), 0)
    tell(comm.world.rank(3), GoOn(), 0)
    assert len(exchange.from_silos(GoOn)) == 2, "it is not waited for again"


def test_who_takes_nothing_in_time_is_not_there_any_more():
    comm, exchange = lenient()
    comm.Issend = lambda content, dest, tag: NEVER if dest == 2 else DONE
    exchange.to_silos([GoOn()] * 4)
    assert exchange.silos == [1, 3]


def test_a_refusal_is_said_whoever_does_not_listen(monkeypatch):
    monkeypatch.setattr(module, "_LAST_WORD_SECONDS", 0.1)
    comm = World(2).rank(0)
    tell(comm.world.rank(1), Present(), 0)
    comm.Issend = lambda content, dest, tag: NEVER
    card, fault = Present(fault="DataError"), DataError("no /srv")
    with pytest.raises(FedClipError, match="1 of 2 ranks cannot start\n  server: no /srv"):
        exchange_status(comm, card, NAMES, 600.0, go_on, fault, GoOn)
    assert comm.world.codes == []


@pytest.mark.parametrize("comes", [True, False])
def test_a_wait_of_mpis_own_ends_the_job_when_a_rank_does_not_come(comes, monkeypatch, capfd):
    left = threading.Event()
    monkeypatch.setattr(stop.os, "_exit", lambda code: left.set())
    comm = World(2).rank(0)
    with together(comm, "rank 0, with everything done", "its end", 60 if comes else 0.1):
        assert comes or left.wait(5)
    assert left.is_set() is not comes
    assert comm.world.codes == [stop.WAITED_IN_VAIN] * (not comes), "it cannot say for whom"
    told = "rank 0, with everything done: another rank does not come to its end within 0 s: look at the silos' hosts\n"
    assert capfd.readouterr().err == ("" if comes else f"fedclip: the job stops: {told}")


def test_a_job_ends_though_nobody_can_be_told(monkeypatch):
    def refused(stream, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedclip_edge.terminal.os.write", refused)
    comm = World(2).rank(0)
    with pytest.raises(SystemExit):
        stop.stop_job(comm, "rank 0", "enough")
    assert comm.world.codes == [1]
