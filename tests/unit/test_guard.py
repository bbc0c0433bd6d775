"""What keeps a federation from hanging: guarded handlers, the watchdog, the roll call."""

import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from fedml.core.distributed.communication.message import Message
from support import fedml_args

from fedclip_plugin.errors import DataError, FedClipError, FederationError
from fedclip_plugin.federated import guard
from fedclip_plugin.federated import roll_call as roll_call_module
from fedclip_plugin.federated.guard import Guarded, Watchdog
from fedclip_plugin.federated.roll_call import Card, agree_on_classes, agree_on_precision, require_one_task, roll_call


class Comm:
    def __init__(self):
        self.codes = []

    def Abort(self, code):
        self.codes.append(code)


class Handler(Guarded):
    def __init__(self, error):
        self.args = fedml_args(comm=Comm())
        self.names = {2: "silo art (rank 2)"}
        self.message_handler_dict = {7: self.fail}
        self.error = error

    def where(self):
        return "silo photo (rank 3), round 12"

    def fail(self, message):
        raise self.error


@pytest.fixture
def ended(monkeypatch):
    codes = []
    monkeypatch.setattr(guard.os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize(
    "error", [ValueError("no disk"), KeyError("no disk"), SystemExit("no disk"), KeyboardInterrupt("no disk")]
)
def test_whatever_a_handler_raises_ends_the_job_with_its_traceback(error, ended, capfd):
    handler = Handler(error)
    handler.receive_message(7, None)
    told = capfd.readouterr().err
    assert "silo photo (rank 3), round 12" in told
    assert "Traceback" in told
    assert "no disk" in told
    assert handler.args.comm.codes == ended == [1]


def test_a_users_fault_has_no_traceback(ended, capfd):
    Handler(FederationError("too few updates")).receive_message(7, None)
    told = capfd.readouterr().err
    assert told == "fedclip: the job stops: silo photo (rank 3), round 12: too few updates\n"


def test_a_message_that_nobody_handles_ends_the_job(ended, capfd):
    Handler(ValueError()).receive_message(99, Message(99, 2, 3))
    told = capfd.readouterr().err
    assert told.endswith("round 12: silo art (rank 2) sent a message of type 99, which nobody here takes\n")
    assert ended == [1]


@pytest.fixture
def dog():
    late, bark = [], threading.Event()

    def on_silence(names):
        late.extend(names)
        bark.set()

    watchdog = Watchdog(on_silence)
    watchdog.late, watchdog.bark = late, bark
    return watchdog


def test_the_watchdog_names_who_stays_silent(dog):
    dog.expect(["a", "b", "c"], 0.2)
    dog.heard("b")
    assert dog.bark.wait(5)
    assert dog.late == ["a", "c"]


def test_the_watchdog_rests_when_all_have_answered(dog):
    dog.expect(["a", "b"], 1.0)
    dog.heard("a")
    dog.heard("b")
    assert not dog.bark.wait(1.2)


def test_being_expected_again_gives_no_more_time(dog):
    began = time.monotonic()
    dog.expect(["a"], 0.3)
    for _ in range(10):
        dog.expect(["a", "b"], 60)
        time.sleep(0.05)
    assert dog.bark.wait(5)
    assert dog.late == ["a"]
    assert time.monotonic() - began < 5


def test_time_begins_anew_after_an_answer(dog):
    for _ in range(4):
        dog.expect(["a"], 1.0)
        time.sleep(0.35)
        dog.heard("a")
    assert not dog.bark.is_set()


@pytest.mark.parametrize("here", [True, False])
def test_a_rank_that_never_comes_to_its_end_ends_the_job(here, monkeypatch, capfd):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(guard.os, "_exit", leave)
    comm = World(2).rank(0)
    comm.Ibarrier = lambda: SimpleNamespace(Test=lambda: here)
    if here:
        guard.end_together(comm, 0.1)
        assert comm.codes == []
        return
    with pytest.raises(SystemExit):
        guard.end_together(comm, 0.1)
    assert comm.codes == [1]
    assert "rank 0, with everything done: another rank has not come to its end within 0 s" in capfd.readouterr().err


def test_bytes_that_are_no_card_end_the_job_by_their_senders_name(monkeypatch, capfd):
    def leave(code):
        raise SystemExit(code)

    def unreadable(**_):
        raise pickle.UnpicklingError("invalid load key, '!'")

    monkeypatch.setattr(guard.os, "_exit", leave)
    comm = World(3).rank(0)
    comm.Iprobe, comm.recv = lambda source, tag: source == 2, unreadable
    with pytest.raises(SystemExit):
        roll_call_module._receive(comm, [1, 2], NAMES, 5.0, "server (rank 0), before round 1")
    assert capfd.readouterr().err == (
        "fedclip: the job stops: server (rank 0), before round 1: art (rank 2) sent bytes that are no message: "
        "UnpicklingError: invalid load key, '!'\n"
    )


def test_those_whose_time_is_over_at_about_the_same_moment_are_named_together(dog):
    for name in ("a", "b", "c", "d"):
        dog.expect([name], 0.2)
        time.sleep(0.02)
    dog.expect(["e"], 5)
    dog.heard("c")
    assert dog.bark.wait(5)
    assert dog.late == ["a", "b", "d"]


def test_each_word_that_is_owed_has_its_own_time(dog):
    dog.expect(["a"], 60)
    dog.expect(["a"], 0.2)
    time.sleep(0.3)
    dog.heard("a")
    assert not dog.bark.is_set()
    assert dog.bark.wait(5)
    assert dog.late == ["a"]


def test_who_owes_nothing_more_is_not_waited_for(dog):
    dog.expect(["a", "b"], 0.4)
    dog.expect(["a"], 0.4)
    for name in ("a", "b", "a", "a"):
        dog.heard(name)
    dog.expect(["b"], 0.2)
    assert dog.bark.wait(5)
    assert dog.late == ["b"]


def test_time_in_which_this_process_stood_still_counts_for_nobody(dog, monkeypatch):
    """As after SIGSTOP and SIGCONT: the answers that came meanwhile have not been looked at yet."""
    frozen = [0.0]
    monkeypatch.setattr(guard, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + frozen[0]))
    dog.expect(["a"], 0.5)
    time.sleep(0.1)
    frozen[0] = 100.0
    assert not dog.bark.wait(0.2)
    assert dog.bark.wait(5)
    assert dog.late == ["a"]


def test_backbones_that_differ_are_refused_by_rank():
    cards = [
        Card("server", fingerprint="a" * 64),
        Card("photo", fingerprint="a" * 64),
        Card("art", fingerprint="b" * 64),
    ]
    with pytest.raises(FedClipError, match=r"server: aaaaaaaaaaaa, photo: aaaaaaaaaaaa, art: bbbbbbbbbbbb"):
        require_one_task(cards)
    require_one_task(cards[:2])


def test_recipes_that_differ_are_refused_by_rank():
    with pytest.raises(FedClipError, match=r"different recipes \(server: aa, photo: bb\)"):
        require_one_task([Card("server", recipe="aa"), Card("photo", recipe="bb")])


def test_ranks_encode_in_their_common_precision_or_in_float32():
    assert (
        agree_on_precision([Card("server"), Card("photo", precision="bf16"), Card("art", precision="bf16")]) == "bf16"
    )
    assert agree_on_precision([Card("photo", precision="bf16"), Card("art", precision="fp32")]) == "fp32"
    assert agree_on_precision([Card("server")]) == "fp32"


def test_the_class_list_is_the_recipes_or_that_of_all():
    cards = [Card("server"), Card("photo", ("cat", "dog")), Card("art", ("cat", "dog"))]
    assert agree_on_classes(cards, None) == ("cat", "dog")
    assert agree_on_classes(cards, ("dog", "cat", "hen")) == ("dog", "cat", "hen")
    with pytest.raises(DataError, match=r"photo lacks hen; art lacks dog"):
        agree_on_classes([*cards[:2], Card("art", ("cat", "hen"))], None)


class World:
    """Ranks of one process: what ``send`` puts in, ``recv`` takes out."""

    def __init__(self, size):
        self.size = size
        self.boxes = {}

    def rank(self, number):
        return Rank(self, number)


class Rank(Comm):
    def __init__(self, world, number):
        super().__init__()
        self.world, self.number = world, number

    def Get_rank(self):
        return self.number

    def Get_size(self):
        return self.world.size

    def send(self, content, dest, tag):
        self.world.boxes.setdefault((self.number, dest, tag), []).append(content)

    def Iprobe(self, source, tag):
        return bool(self.world.boxes.get((source, self.number, tag)))

    def recv(self, source, tag):
        return self.world.boxes[source, self.number, tag].pop(0)


NAMES = ("server", "photo", "art")


def call_all(cards, timeout=5.0):
    """Return what every rank gets of a roll call, or the error it raises."""
    world, results = World(len(cards)), {}

    def call(number):
        try:
            results[number] = roll_call(world.rank(number), cards[number], NAMES, timeout)
        except FedClipError as error:
            results[number] = str(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(cards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return [results[number] for number in range(len(cards))]


def test_every_rank_hears_of_every_rank():
    cards = [Card("server"), Card("photo", ("cat",), 10), Card("art", ("cat",), 20)]
    assert call_all(cards) == [cards, cards, cards]


def test_a_fault_of_one_rank_is_an_error_on_all():
    told = call_all([Card("server"), Card("photo", error="no images"), Card("art", error="no such folder")])
    assert told == ["2 of 3 ranks cannot start\n  photo: no images\n  art: no such folder"] * 3


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "server (rank 0), before round 1: no sign of photo, art"),
        (2, "art (rank 2), before round 1: no sign of server"),
    ],
)
def test_a_silent_rank_ends_the_job(number, message, monkeypatch, capfd):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(guard.os, "_exit", leave)
    comm = World(3).rank(number)
    with pytest.raises(SystemExit):
        roll_call(comm, Card(NAMES[number]), NAMES, timeout=0.1)
    assert comm.codes == [1]
    told = capfd.readouterr().err
    assert message in told
    assert "fedclip_args.start_timeout" in told
