"""Objects outside of a federation: whoever is late, frozen, or of another mind is named, and nobody waits for ever."""

import pickle
import threading
from types import SimpleNamespace

import pytest

from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.managers.watchdog import together
from fedclip_plugin.federated.messages import exchange as module
from fedclip_plugin.federated.messages.exchange import Exchange
from fedclip_plugin.federated.startup.rank_status import exchange_status, go_on
from fedclip_plugin.federated.startup.start_messages import GoOn, Present
from tests.support.mpi_world import World

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


def test_bytes_that_are_no_object_end_the_job_by_their_senders_name(capfd):
    def unreadable(**_):
        raise pickle.UnpicklingError("invalid load key, '!'")

    comm, exchange = server(5.0)
    comm.Iprobe, comm.recv = lambda source, tag: source == 2, unreadable
    with pytest.raises(SystemExit):
        exchange.from_silos(Present)
    assert capfd.readouterr().err == (
        "fedclip: the job stops: server (rank 0), before round 1: a\\x1brt (rank 2) sent bytes that are no message: "
        "UnpicklingError: invalid load key, '!'\n"
    )


def test_a_silo_that_takes_nothing_is_named_and_no_other(capfd):
    """It has sent its own, and is frozen: to MPI a small message to it is gone at once, but nobody reads it."""
    comm, exchange = server()
    comm.issend = lambda value, dest, tag: NEVER if dest == 2 else DONE
    with pytest.raises(SystemExit):
        exchange.to_silos([GoOn()] * 3)
    assert comm.world.codes == [1]
    assert "no sign of a\\x1brt within 0 s (fedclip_args.start_timeout)" in capfd.readouterr().err


def test_a_silo_whose_server_takes_nothing_says_so(capfd):
    comm = World(3).rank(1)
    comm.isend = lambda value, dest, tag: NEVER
    with pytest.raises(SystemExit):
        Exchange(comm, NAMES, 0.1, "between federations").to_server(Present())
    assert "photo (rank 1), between federations: no sign of server" in capfd.readouterr().err


def test_a_refusal_is_said_whoever_does_not_listen(monkeypatch):
    monkeypatch.setattr(module, "_LAST_WORD_SECONDS", 0.1)
    comm = World(1).rank(0)
    comm.Get_size = lambda: 2
    comm.Iprobe, comm.recv = lambda source, tag: True, lambda source, tag: Present()
    comm.issend = lambda value, dest, tag: NEVER
    card, fault = Present(fault="DataError"), DataError("no /srv")
    with pytest.raises(FedClipError, match="1 of 2 ranks cannot start\n  server: no /srv"):
        exchange_status(comm, card, NAMES, 600.0, go_on, fault)
    assert comm.world.codes == []


@pytest.mark.parametrize("comes", [True, False])
def test_a_wait_of_mpis_own_ends_the_job_when_a_rank_does_not_come(comes, monkeypatch, capfd):
    left = threading.Event()
    monkeypatch.setattr(stop.os, "_exit", lambda code: left.set())
    comm = World(2).rank(0)
    with together(comm, "rank 0, with everything done", "its end", 60 if comes else 0.1):
        assert comes or left.wait(5)
    assert left.is_set() is not comes
    assert comm.world.codes == [1] * (not comes)
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
