"""What keeps a federation from hanging: guarded handlers, the watchdog, the status of ranks."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from fedml.core.distributed.communication.message import Message

from fedclip_plugin.errors import DataError, FedClipError, FederationError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.managers import watchdog
from fedclip_plugin.federated.managers.handlers import ManagerMixin
from fedclip_plugin.federated.managers.watchdog import Watchdog
from fedclip_plugin.federated.startup.rank_status import (
    Disagreement,
    agree_on_classes,
    agree_on_precision,
    exchange_status,
    go_on,
    require_one_backbone,
    require_one_recipe,
    require_own_names,
)
from fedclip_plugin.federated.startup.start_messages import GoOn, Opened, Present, Ready, Room, fault_kind
from tests.support.mpi_world import World
from tests.support.paths import ROOT
from tests.support.workshop import fedml_args


class Comm:
    def __init__(self):
        self.codes = []

    def Abort(self, code):
        self.codes.append(code)


class Handler(ManagerMixin):
    def __init__(self, error):
        self.args = fedml_args(comm=Comm())
        self.names = {2: "silo art (rank 2)"}
        self.message_handler_dict = {7: self.fail}
        self.error = error

    def where(self):
        return "silo photo (rank 3), round 12"

    def expected(self):
        return {}

    def _heard(self, rank):
        raise AssertionError("nothing arrives")

    def look(self):
        raise AssertionError("nobody is late")

    def fail(self, message):
        raise self.error


@pytest.fixture
def ended(monkeypatch):
    codes = []
    monkeypatch.setattr(stop.os, "_exit", codes.append)
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
    monkeypatch.setattr(watchdog, "_TICK_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + frozen[0]))
    dog.expect(["a"], 0.5)
    time.sleep(0.1)
    frozen[0] = 100.0
    assert not dog.bark.wait(0.2)
    assert dog.bark.wait(5)
    assert dog.late == ["a"]


def ready(name, **facts):
    return Ready(name=name, **facts)


def test_backbones_that_differ_are_refused_by_rank():
    cards = [ready("server", fingerprint="a" * 64), ready("photo", fingerprint="a" * 64)]
    with pytest.raises(FedClipError, match=r"server: aaaaaaaaaaaa, photo: aaaaaaaaaaaa, art: bbbbbbbbbbbb"):
        require_one_backbone([*cards, ready("art", fingerprint="b" * 64)])
    require_one_backbone(cards)


def test_recipes_that_differ_are_refused_by_rank():
    with pytest.raises(FedClipError, match=r"different recipes \(server: aa, photo: bb\)"):
        require_one_recipe([Present(recipe="aa"), Present(recipe="bb")], ["server", "photo"])


def test_ranks_of_one_name_are_refused_and_each_hears_of_itself():
    cards = [ready("server"), ready("photo"), ready("art"), ready("photo")]
    with pytest.raises(Disagreement, match=r"the same name \(photo: ranks 1, 3\)") as caught:
        require_own_names(cards)
    assert caught.value.reasons.keys() == {1, 3}
    require_own_names(cards[:3])


def test_ranks_encode_in_their_common_precision_or_in_float32():
    photo, art = ready("photo", precision="bf16"), ready("art", precision="bf16")
    assert agree_on_precision(own.precision for own in [ready("server"), photo, art]) == "bf16"
    assert agree_on_precision([photo.precision, "fp32"]) == "fp32"
    assert agree_on_precision([ready("server").precision]) == "fp32"


def test_the_class_list_is_the_recipes_or_that_of_all():
    cards = [ready("server"), ready("photo", classes=("cat", "dog")), ready("art", classes=("cat", "dog"))]
    assert agree_on_classes(cards, None) == ("cat", "dog")
    assert agree_on_classes(cards, ("dog", "cat", "hen")) == ("dog", "cat", "hen")
    with pytest.raises(Disagreement, match=r"photo lacks hen; art lacks dog") as caught:
        agree_on_classes([*cards[:2], ready("art", classes=("cat", "hen"))], None)
    assert {rank: reason.split(": ")[1] for rank, reason in caught.value.reasons.items()} == {1: "hen", 2: "dog"}


NAMES = ("server", "photo", "art")


def call_all(cards, judge=go_on, errors=(None, None, None), verdict=GoOn):
    """Return what every rank hears of the exchange of status, or the error that it raises, and what crossed."""
    world = World(len(cards))

    def call(comm):
        number = comm.Get_rank()
        return exchange_status(comm, cards[number], NAMES, 5.0, judge, errors[number], verdict)

    return world.together(call), world.crossed


def test_every_silo_hears_a_verdict_and_nothing_of_the_others():
    cards = [ready("server"), ready("photo", images=10), ready("art", images=20)]
    seen = []

    def judge(found):
        seen.extend(found)
        return [Opened(number, 0) for number in range(3)]

    verdicts, crossed = call_all(cards, judge, verdict=Opened)
    assert verdicts == [Opened(0, 0), Opened(1, 0), Opened(2, 0)]
    assert seen == cards
    assert sorted(crossed, key=lambda each: each[:2]) == [
        *((0, 1, Opened(1, 0)), (0, 2, Opened(2, 0))),
        *((1, 0, cards[1]), (2, 0, cards[2])),
    ]


def test_a_fault_of_one_rank_is_an_error_on_all_and_its_words_are_its_own(capfd):
    errors = [None, DataError("no images in /data/photo"), FileNotFoundError("no such file: /data/art")]
    cards = [ready("server"), ready("photo", fault=fault_kind(errors[1])), ready("art", fault=fault_kind(errors[2]))]
    told, crossed = call_all(cards, errors=errors)
    more = "its own line, or its log, says it in full)"
    assert str(told[0]).splitlines() == [
        "2 of 3 ranks cannot start",
        f"  photo: its images or folders cannot be used as they are (DataError; {more}",
        f"  art: a file or folder of it cannot be read or written (OSError; {more}",
    ]
    assert [str(error) for error in told[1:]] == ["the job cannot start: the server's console says why"] * 2
    said = capfd.readouterr().err
    assert "fedclip: photo (rank 1): no images in /data/photo\n" in said
    assert "fedclip: art (rank 2): no such file: /data/art\n" in said
    assert "/data" not in repr(crossed)


def test_a_fault_of_the_server_is_said_in_full_by_the_server():
    told, crossed = call_all([ready("server", fault="DataError"), ready("photo")], errors=[DataError("no /srv"), None])
    assert str(told[0]) == "1 of 2 ranks cannot start\n  server: no /srv"
    assert "/srv" not in repr(crossed)


def test_a_silo_that_the_server_objects_to_hears_its_own_part():
    def judge(found):
        raise Disagreement("photo lacks hen; art lacks dog", {1: "you lack hen", 2: "you lack dog"})

    told, _ = call_all([ready(name) for name in NAMES], judge)
    assert [str(error) for error in told] == [
        "photo lacks hen; art lacks dog",
        "the job cannot start: you lack hen",
        "the job cannot start: you lack dog",
    ]


def test_a_rank_that_sends_something_else_is_named():
    told, _ = call_all([ready("server"), Room()])
    assert "photo sent something that is no Ready" in str(told[0])


@pytest.mark.parametrize(
    ("number", "message", "code"),
    [
        (0, "server (rank 0), before round 1: no sign of photo, art", 1),
        (2, "art (rank 2), before round 1: no sign of server", stop.WAITED_IN_VAIN),
    ],
)
def test_a_silent_rank_ends_the_job(number, message, code, monkeypatch, capfd):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", leave)
    world = World(3)
    with pytest.raises(SystemExit):
        exchange_status(world.rank(number), ready(NAMES[number]), NAMES, 0.1, go_on, None, GoOn)
    assert world.codes == [code]
    told = capfd.readouterr().err
    assert message in told
    assert "fedclip_args.start_timeout" in told


@pytest.mark.parametrize(
    ("rank", "here", "whole"), [("0", "1", True), ("2", "4", True), ("2", "1", False), ("2", None, False)]
)
def test_on_several_machines_a_silos_own_words_stay_there(rank, here, whole, tmp_path):
    """In a process of its own: its stdout and stderr are moved for good."""
    log, program = tmp_path / "logs" / "rank.log", tmp_path / "say.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from fedclip_plugin.federated.stop import stop_job\n"
        "from fedclip_plugin.federated.rank_output import keep_own_words, say\n"
        "class Comm:\n"
        "    def Abort(self, code):\n"
        "        pass\n"
        "say('early: /data/x.png\\n', 'early, in short\\n')\n"
        "keep_own_words(Path(sys.argv[1]))\n"
        "print('printed: /data/x.png', flush=True)\n"
        "print('library: /data/x.png', file=sys.stderr)\n"
        "say('line: /data/x.png\\n', 'line, in short\\n')\n"
        "stop_job(Comm(), 'silo photo (rank 2), round 3', OSError('no room: /data/x.png'))\n"
    )
    keys = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "4", "PYTHONPATH": str(ROOT)}
    keys |= {"OMPI_COMM_WORLD_LOCAL_SIZE": here} if here else {}
    command = [sys.executable, str(program), str(log)]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", **keys}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    console = done.stdout + done.stderr
    assert console.count("/data/x.png") == (5 if whole else 0)
    assert console.count("in short") == (0 if whole else 2)
    assert "the job stops: silo photo (rank 2), round 3: " in console
    assert "OSError" in console
    assert log.exists() is not whole
    if not whole:
        kept = log.read_text()
        assert [kept.count(each) for each in ("printed: /data", "library: /data", "line: /data", "room: /data")] == [
            1
        ] * 4
