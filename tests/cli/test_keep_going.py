"""A job that lost a silo is started again without it; who is to blame is read from what mpirun and the server say."""

import argparse
import json
import os
import signal
from pathlib import Path

import pytest

from fedclip_plugin.cli import launch, run
from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.command import Launch, Watch
from fedclip_plugin.cli.mpirun.host_faults import HostFault
from fedclip_plugin.cli.mpirun.hostfile import hostfile_text, is_here, rank_hosts
from fedclip_plugin.cli.mpirun.keep_going import Loss, loss, require_placing
from fedclip_plugin.cli.mpirun.rank_ends import RankEnd
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, JobSignals, attend
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.stop import SILENT_RANKS, WAITED_IN_VAIN, noted_ranks, stop_job
from fedclip_plugin.runs import RunFolder
from tests.support.round_records import round_line, round_record

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTOU)


HOSTS = ("head", "north.example.org", "south", "south")
DOWN = HostFault("host is down", True, "south")
OF_2 = RankEnd(2, None, "was ended by signal 9")


@pytest.mark.parametrize(
    ("ending", "found"),
    [
        (Ending(137, False, rank=OF_2), Loss(frozenset({2}), "was ended by signal 9")),
        (
            Ending(1, False, rank=RankEnd(0, 1, "stopped the job"), silent=(1, 3)),
            Loss(frozenset({1, 3}), "stayed silent"),
        ),
        (Ending(1, False, host=DOWN, rank=OF_2), Loss(frozenset({2, 3}), "was on host south")),
        (Ending(1, False, host=HostFault("", True, "north")), Loss(frozenset({1}), "was on host north")),
        (
            Ending(1, False, host=HostFault("", True, "vm-3"), nodes={0: "vm-1", 1: "vm-3", 2: "vm-3"}),
            Loss(frozenset({1, 2}), "was on host vm-3"),
        ),
        (Ending(1, False, host=HostFault("", True, "head")), None),
        (Ending(1, False, host=HostFault("", True, "elsewhere")), None),
        (Ending(1, False, host=HostFault("", True)), None),
        (Ending(137, False, rank=RankEnd(0, None, "was ended by signal 9")), None),
        (Ending(2, False, rank=RankEnd(2, 2, "ended with exit code 2")), None),
        (Ending(1, False, rank=RankEnd(2, 2, "ended with exit code 2")), None),
        (Ending(3, False, rank=RankEnd(2, WAITED_IN_VAIN, "stopped the job")), None),
        (Ending(1, False), None),
        (Ending(0, False, rank=OF_2), None),
        (Ending(130, True, rank=OF_2), None),
    ],
)
def test_who_is_to_blame(ending, found):
    assert loss(ending, HOSTS) == found


def test_a_short_name_that_two_hosts_have_blames_nobody():
    assert loss(Ending(1, False, host=HostFault("", True, "a")), ("head", "a.x.org", "a.y.org")) is None


@pytest.mark.parametrize("word", ["--map-by", "--map-by=node", "--rankfile", "-rank-by"])
def test_options_that_place_ranks_are_refused(word):
    with pytest.raises(FedClipError, match=f"{word} after -- places ranks"):
        require_placing(["--mca", "btl", "tcp", word])
    require_placing(["--mca", "btl", "tcp"])


def test_each_silo_stays_on_its_own_host(tmp_path):
    file = tmp_path / "hosts"
    file.write_text("head slots=1\nnorth slots=2\nsouth slots=9\n")
    assert rank_hosts(file, 5) == ("head", "north", "north", "south", "south")
    assert hostfile_text(("head", "north", "south")) == "head slots=1\nnorth slots=1\nsouth slots=1\n"
    assert hostfile_text(("head", "north", "north")) == "head slots=1\nnorth slots=2\n"
    file.write_text("head slots=1\nnorth\n")
    with pytest.raises(FedClipError, match="gives no slots= for north, so that nobody knows where"):
        rank_hosts(file, 3)


def test_this_machine_is_known_by_name_and_address():
    assert is_here("localhost") and is_here("127.0.0.1")
    assert not is_here("192.0.2.1") and not is_here("no-such-host.invalid")


def test_the_server_notes_who_was_silent(tmp_path, monkeypatch):
    class Job:
        def Abort(self, code):
            raise SystemExit(code)

    note = tmp_path / "note"
    assert noted_ranks(note) == ()
    for where, noted in ((None, ()), (note, (1, 3)), (tmp_path / "no" / "folder", ())):
        if where is not None:
            monkeypatch.setenv(SILENT_RANKS, str(where))
        with pytest.raises(SystemExit, match="1"):
            stop_job(Job(), "server", "no answer", silent=[3, 1])
        assert noted_ranks(where or note) == noted
    with pytest.raises(FedClipError):
        stop_job(LocalComm(0, 2, None), "server", "no answer", silent=[1])


def test_a_signal_between_two_jobs_keeps_the_next_from_starting(tmp_path):
    kept = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signals = JobSignals()
        assert attend(["/bin/true"], {}, signals=signals) == Ending(0, told=False)
        os.kill(os.getpid(), signal.SIGTERM)
        made = tmp_path / "made"
        assert attend(["/usr/bin/touch", str(made)], {}, signals=signals) == Ending(143, told=True)
        assert not made.exists()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class Jobs:
    """Stands for mpirun: each start takes the next ending, and what has been recorded until then."""

    def __init__(self, monkeypatch, *endings):
        self.endings, self.started = list(endings), []
        monkeypatch.setattr(Launch, "attend", self.attend_for)

    @property
    def attend_for(self):
        jobs = self

        def attended(self, program, watch=None):
            jobs.started.append(
                (self.ranks, program[program.index("run") + 1 :], self.hosts and self.hosts.read_text())
            )
            rounds, ending = jobs.endings.pop(0)
            silo = round_line(0)["silos"]["north"]
            silos = dict.fromkeys(("photo", "art_painting", "cartoon"), silo)
            records = [round_record(number, silos=silos).to_json() for number in range(rounds)]
            RunFolder(Path("run")).metrics.write_text("".join(f"{record}\n" for record in records))
            assert watch is None or isinstance(watch, Watch)
            return ending

        return attended


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = {number: signal.getsignal(number) for number in _HANDLED}
    yield tmp_path
    for number, handler in kept.items():
        signal.signal(number, handler)


WORDS = ["launch", "miniature/clip_tiny_fedclip", "--run", "run", "--keep-going"]
ENOUGH = ["--set", "fedclip_args.min_silos=1"]


def left_out(words):
    """Return the silos without which a rank is started, as it reads its words itself."""
    parser = argparse.ArgumentParser()
    run.add(parser)
    return parser.parse_args(words).without


def options_of(words):
    return [word for word in words if word != "--no-progress"]


def test_a_job_goes_on_without_each_silo_that_it_loses(elsewhere, monkeypatch, capsys):
    jobs = Jobs(
        monkeypatch,
        (1, Ending(137, False, rank=OF_2)),
        (4, Ending(1, False, rank=RankEnd(0, 1, "stopped the job"), silent=(2,))),
        (4, Ending(0, False)),
    )
    assert main([*WORDS, *ENOUGH]) == 0
    told = capsys.readouterr().err.splitlines()
    first, second, third = ((ranks, options_of(words)) for ranks, words, _ in jobs.started)
    names, both = left_out(second[1]), left_out(third[1])
    assert (first[0], second[0], third[0]) == (4, 3, 2)
    assert not left_out(first[1]) and "--resume" not in first[1]
    assert "--resume" in second[1] and len(names) == 1 and len(both) == 2
    assert told[0] == f"fedclip: {names[0]} was ended by signal 9: the job goes on without, from the beginning"
    assert "stayed silent: the job goes on without, after round 3" in told[1]
    assert told[2].startswith("fedclip: the job came to its end without ") and names[0] in told[2]
    assert len(told) == 3


def test_a_silo_whose_name_begins_with_a_dash_is_left_out_too():
    options = argparse.Namespace(hostfile=None, run_dir=None, resume=False, overrides=[], progress=False, debug=False)
    members = Members(3, {0: "-x", 2: "south east"})
    words = launch._words(options, Path("demo.yaml"), RunFolder(Path("run")), members, True)
    assert left_out(words[words.index("run") + 1 :]) == ["-x", "south east"]


def test_where_no_silo_may_be_lost_it_has_no_use(elsewhere, capsys):
    assert main([*WORDS, "--set", "fedclip_args.min_silos=3"]) == 2
    assert "fedclip_args.min_silos is 3, and there are 3 silos, so that none may be lost" in capsys.readouterr().err


def test_it_ends_where_too_few_are_left(elsewhere, monkeypatch, capsys):
    Jobs(monkeypatch, (3, Ending(137, False, rank=OF_2)), (3, Ending(137, False, rank=OF_2)))
    assert main([*WORDS, "--set", "fedclip_args.min_silos=2"]) == 137
    told = capsys.readouterr().err
    assert "1 of 2 silos would be left, and a round needs 2 (fedclip_args.min_silos)" in told
    assert "fedclip: the job ended early; round 2 is complete and safe in run" in told


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (Ending(137, False, rank=RankEnd(0, None, "was ended by signal 9")), 137),
        (Ending(1, False, rank=RankEnd(1, WAITED_IN_VAIN, "stopped the job")), 1),
        (Ending(130, True, rank=OF_2), 130),
        (Ending(2, False, rank=RankEnd(1, 2, "ended with exit code 2")), 2),
    ],
)
def test_what_is_no_silos_fault_ends_it_as_ever(ending, code, elsewhere, monkeypatch, capsys):
    jobs = Jobs(monkeypatch, (3, ending))
    assert main([*WORDS, *ENOUGH]) == code
    assert len(jobs.started) == 1 and "goes on without" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--keep-going: the recipe does not say how few silos will do"),
        (["--set", "fedclip_args.secure_sums=true"], "--keep-going: with secure_sums no silo masks a round again"),
        (["--hostfile", "hosts", *ENOUGH], "--keep-going: the server runs on 192.0.2.1, the first host of hosts, and"),
        (["--hostfile", "unsaid", *ENOUGH], "unsaid gives no slots= for localhost"),
        (["--hostfile", "short", *ENOUGH], "short has 3 slots"),
        (["--hostfile", "short", *ENOUGH], "silos that are left out keep their slots in the file"),
        (["--hostfile", "here", *ENOUGH, "--", "--map-by", "node"], "--map-by after -- places ranks"),
    ],
)
def test_what_it_needs_is_asked_for_first(words, told, elsewhere, monkeypatch, capsys):
    (elsewhere / "hosts").write_text("192.0.2.1 slots=4\n")
    (elsewhere / "unsaid").write_text("localhost\n")
    (elsewhere / "short").write_text("localhost slots=3\n")
    (elsewhere / "here").write_text("localhost slots=4\n")
    jobs = Jobs(monkeypatch)
    assert main([*WORDS, *words]) == 2
    assert told in capsys.readouterr().err and jobs.started == []


def test_a_simulation_has_no_silos_to_lose(elsewhere, capsys):
    assert main(["launch", "simulation/clip_tiny_fedclip", "--keep-going"]) == 2
    assert "--keep-going is about silos, and a simulation has none" in capsys.readouterr().err
    assert main(["launch", "simulation/clip_tiny_fedclip", "--without", "x"]) == 2
    assert "--without leaves out silos, and a simulation has none" in capsys.readouterr().err


def test_with_a_hostfile_the_lost_host_gets_no_rank_again(elsewhere, monkeypatch, capsys):
    (elsewhere / "hosts").write_text("localhost slots=1\nnorth slots=1\nsouth slots=2\n")
    down = HostFault("the connection to host north was lost", True, "north")
    jobs = Jobs(monkeypatch, (2, Ending(1, False, host=down)), (3, Ending(0, False)))
    assert main([*WORDS, "--hostfile", "hosts", *ENOUGH]) == 0
    assert [hosts for _, _, hosts in jobs.started] == [
        "localhost slots=1\nnorth slots=1\nsouth slots=2\n",
        "localhost slots=1\nsouth slots=2\n",
    ]
    captured = capsys.readouterr()
    assert "was on host north: the job goes on without, after round 1" in captured.err
    assert "ranks by host: 0 localhost, 1 south, 2 south" in captured.out


def test_by_hand_the_hostfile_stays_that_of_all_silos(elsewhere, monkeypatch):
    (elsewhere / "hosts").write_text("head slots=1\nnorth slots=1\nsouth slots=2\n")
    jobs = Jobs(monkeypatch, (1, Ending(0, False)))
    RunFolder(Path("run")).path.mkdir()
    words = ["launch", "miniature/clip_tiny_fedclip", "--run", "run", "--hostfile", "hosts", "--without", "cartoon"]
    assert main([*words, *ENOUGH]) == 0
    ((ranks, own, hosts),) = jobs.started
    assert ranks == 3 and left_out(own) == ["cartoon"]
    assert hosts == "head slots=1\nnorth slots=1\nsouth slots=1\n"


def test_a_hostfile_that_is_read_has_a_note_beside_it(monkeypatch, tmp_path):
    seen = {}

    def attended(command, environment, advice, signals):
        seen.update(command=command, environment=environment, advice=advice)
        Path(environment[SILENT_RANKS]).write_text(json.dumps({"silent": [2]}))
        return Ending(1, told=False)

    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", attended)
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.mpi_library", lambda: "none")
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.find_mpirun", lambda: "mpirun")
    job = Launch(3, tmp_path / "hosts", (), tmp_path / "fewer")
    watch = Watch(JobSignals.__new__(JobSignals), tmp_path / "note", again=True)
    assert job.attend(["x"], watch).silent == (2,)
    assert seen["command"][seen["command"].index("--hostfile") + 1] == str(tmp_path / "fewer")
    assert "--report-bindings" in seen["command"]


def test_a_job_that_lost_a_host_has_not_come_to_its_end(monkeypatch, tmp_path, capsys):
    down = HostFault("host north does not answer", True, "north")

    def attended(command, environment, advice, signals):
        advice[1].host = down
        return Ending(0, told=False)

    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", attended)
    monkeypatch.setattr(Launch, "_announced", lambda self, program, watch: program)
    assert Launch(3, tmp_path / "hosts").attend(["x"]).code == 1
    assert capsys.readouterr().err == "fedclip: host north does not answer\n"


def test_who_waited_in_vain_has_stopped_a_federation(monkeypatch):
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", lambda *given: Ending(WAITED_IN_VAIN, told=False))
    monkeypatch.setattr(Launch, "_announced", lambda self, program, watch: program)
    assert Launch(3).attend(["x"]) == Ending(1, told=False)


def test_a_rank_that_hears_of_anothers_death_lets_mpirun_say_whose(monkeypatch):
    from mpi4py import MPI

    waited = []
    monkeypatch.setattr(stop.time, "sleep", waited.append)
    for error, waits in (
        (MPI.Exception(MPI.ERR_PROC_FAILED), True),
        (MPI.Exception(MPI.ERR_REVOKED), True),
        (MPI.Exception(MPI.ERR_TRUNCATE), False),
        (ValueError("x"), False),
    ):
        waited.clear()
        with pytest.raises(type(error)):
            stop_job(LocalComm(0, 2, None), "silo", error)
        assert bool(waited) is waits
