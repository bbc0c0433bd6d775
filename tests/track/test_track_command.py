"""The command logs each round once, goes on where it stopped, and says what is wrong with exit code 2."""

import fcntl
import json
import threading
from pathlib import Path

import pytest

from fedclip_track import track_command as command
from fedclip_track.recorded_run import TrackError
from fedclip_track.track_command import main
from fedclip_track.tracker import Logged, asking, without_password
from tests.track.run_folders import append, line, write_run


class MemoryTracker:
    """Keeps what it is given; `runs` outlives it, as a server does."""

    def __init__(self, runs, place, stop_at=None):
        self.runs, self.place, self.stop_at = runs, place, stop_at

    def open(self, run, known):
        self.id = known.id if known else f"run-{len(self.runs)}"
        self.own = self.runs.setdefault(self.id, {"steps": [], "kept": [], "finished": []})
        return Logged(self.id, known.rounds if known else 0)

    def log(self, round):
        if round.number == self.stop_at:
            with asking(self.place):
                raise ConnectionError("the line is dead")
        self.own["steps"].append(round.number)

    def keep(self, run):
        self.own["kept"] = [place or path.name for path, place in run.artefacts()]

    def close(self, finished):
        self.own["finished"].append(finished)


@pytest.fixture
def server(monkeypatch):
    """Put a tracker named ``memory`` into the table, and return what it was given, by run."""
    runs = {}
    monkeypatch.setitem(command.TRACKERS, "memory", lambda experiment, uri: MemoryTracker(runs, f"{experiment} {uri}"))
    monkeypatch.setattr(command, "_PAUSE", 0.01)
    return runs


def test_a_finished_run_is_logged_once(tmp_path, server, capsys):
    run = write_run(tmp_path / "run")
    assert main([str(run), "--to", "memory"]) == 0
    assert main([str(run), "--to", "memory"]) == 0
    kept = ["recipe.yaml", "metrics.jsonl", "adapters/best", "adapters/final"]
    assert server == {"run-0": {"steps": [0, 1, 2, 3], "kept": kept, "finished": [True, True]}}
    assert capsys.readouterr().out.count("run: 4 rounds are in fedclip None, run run-0; finished") == 2


def test_another_place_gets_a_run_of_its_own(tmp_path, server):
    run = write_run(tmp_path / "run")
    assert main([str(run), "--to", "memory"]) == 0
    assert main([str(run), "--to", "memory", "--experiment", "other"]) == 0
    assert [own["steps"] for own in server.values()] == [[0, 1, 2, 3]] * 2


def test_what_is_new_of_a_run_is_logged_later(tmp_path, server, capsys):
    run = write_run(tmp_path / "run", rounds=3, done=1)
    assert main([str(run), "--to", "memory"]) == 0
    assert "not finished yet" in capsys.readouterr().out
    assert server["run-0"]["finished"] == [False]
    append(run, line(2) + line(3))
    assert main([str(run), "--to", "memory"]) == 0
    assert server["run-0"]["steps"] == [0, 1, 2, 3] and server["run-0"]["finished"] == [False, True]


def test_follow_takes_whole_lines_and_ends_with_the_run(tmp_path, server):
    run = write_run(tmp_path / "run", rounds=3, done=0)
    code = []
    follower = threading.Thread(target=lambda: code.append(main([str(run), "--to", "memory", "--follow"])))
    follower.start()
    for piece in (line(1), line(2)[:50], line(2)[50:], line(3)):
        assert follower.is_alive()
        append(run, piece)
        follower.join(0.05)
    follower.join(10)
    assert code == [0] and server["run-0"]["steps"] == [0, 1, 2, 3] and server["run-0"]["finished"] == [True]


def test_follow_goes_on_with_a_run_that_is_resumed_with_more_rounds(tmp_path, server, capsys, monkeypatch):
    run = write_run(tmp_path / "run", rounds=3, done=1)

    def sleep(seconds):
        if "waiting for it to be resumed" in (told := capsys.readouterr().err):
            notices.append(told)
            write_run(run, rounds=4, done=4)  # the file is replaced, as a resumed job does

    notices = []
    monkeypatch.setattr(command.time, "sleep", sleep)
    assert main([str(run), "--to", "memory", "--follow"]) == 0
    assert len(notices) == 1 and server["run-0"]["steps"] == [0, 1, 2, 3, 4]


def test_follow_waits_for_the_recipe_of_a_job_that_has_begun(tmp_path, server, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def work(seconds):
            if not (folder / "recipe.yaml").exists():
                write_run(folder)
            else:
                lock.close()

        monkeypatch.setattr(command.time, "sleep", work)
        assert main([str(folder), "--to", "memory", "--follow"]) == 0
    assert server["run-0"]["steps"] == [0, 1, 2, 3] and server["run-0"]["finished"] == [True]


def test_follow_does_not_take_a_run_for_finished_that_a_job_goes_on_with(tmp_path, server, monkeypatch):
    run = write_run(tmp_path / "run", rounds=1)
    with (run / ".launch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def work(seconds):
            write_run(run, rounds=2)
            lock.close()

        monkeypatch.setattr(command.time, "sleep", work)
        assert main([str(run), "--to", "memory", "--follow"]) == 0
    assert server["run-0"]["steps"] == [0, 1, 2]


def test_adapters_of_a_running_job_are_not_sent(tmp_path, server):
    run = write_run(tmp_path / "run", rounds=3, done=1)
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([str(run), "--to", "memory"]) == 0
    assert server["run-0"]["kept"] == []


def test_ctrl_c_ends_it_and_the_next_call_goes_on(tmp_path, server, monkeypatch, capsys):
    run = write_run(tmp_path / "run", rounds=3, done=1)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupt)
    assert main([str(run), "--to", "memory", "--follow"]) == 130
    assert "the same command goes on where this one stopped" in capsys.readouterr().err
    append(run, line(2) + line(3))
    assert main([str(run), "--to", "memory", "--follow"]) == 0
    assert server["run-0"]["steps"] == [0, 1, 2, 3]


def test_a_server_that_dies_ends_it_with_2_and_the_next_call_goes_on(tmp_path, server, monkeypatch, capsys):
    run = write_run(tmp_path / "run")
    make = command.TRACKERS["memory"]
    monkeypatch.setitem(command.TRACKERS, "memory", lambda *given: MemoryTracker(server, make(*given).place, stop_at=2))
    assert main([str(run), "--to", "memory"]) == 2
    told = capsys.readouterr().err
    assert "does not answer, or refuses: the line is dead" in told and "goes on where it stopped" in told
    monkeypatch.setitem(command.TRACKERS, "memory", make)
    assert main([str(run), "--to", "memory"]) == 0
    assert server["run-0"]["steps"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda run: (run / "track.json").write_text("{"), "track.json cannot be used"),
        (lambda run: (run / "track.json").write_text('{"recipe_digest": 1, "runs": {"a": 3}}'), "cannot be used"),
        (lambda run: write_run(run, digest="cd" * 32), "is of another recipe"),
        (lambda run: write_run(run, done=1), "it was begun anew; remove track.json"),
        (lambda run: (run / "recipe.yaml").unlink(), "holds no recipe.yaml"),
        (lambda run: append(run, "x\n"), "line 5 is not JSON"),
    ],
)
def test_a_run_that_is_not_the_one_that_was_logged_is_refused(tmp_path, server, capsys, spoil, told):
    run = write_run(tmp_path / "run")
    assert main([str(run), "--to", "memory"]) == 0
    spoil(run)
    assert main([str(run), "--to", "memory"]) == 2
    assert told in capsys.readouterr().err
    assert server["run-0"]["steps"] == [0, 1, 2, 3]


def test_a_second_one_at_once_is_refused(tmp_path, server, capsys):
    run = write_run(tmp_path / "run")
    with (run / ".track.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([str(run), "--to", "memory"]) == 2
    assert "is being logged by another fedclip-track" in capsys.readouterr().err and server == {}


def test_a_file_system_without_locks_is_told_and_no_hindrance(tmp_path, server, monkeypatch, caplog):
    def refuse(file, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert main([str(write_run(tmp_path / "run")), "--to", "memory"]) == 0
    assert "has no locks: start no second fedclip-track" in caplog.text


def test_what_is_noted_is_for_people_too(tmp_path, server):
    run = write_run(tmp_path / "run")
    main([str(run), "--to", "memory"])
    assert json.loads((run / "track.json").read_text()) == {
        "recipe_digest": "ab" * 32,
        "runs": {"fedclip None": {"id": "run-0", "rounds": 4}},
    }
    assert [path.name for path in Path(run).glob("*.half")] == []


def test_a_name_cannot_command_the_terminal(tmp_path, server, capsys):
    assert main([str(tmp_path / "a\x1b[2J\nb"), "--to", "memory"]) == 2
    assert r"a\x1b[2J\nb is no folder" in capsys.readouterr().err


def test_passwords_in_an_address_are_told_to_nobody():
    assert without_password("http://user:secret@host:5000/x") == "http://host:5000/x"
    assert without_password("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    assert main([str(write_run(tmp_path / "run")), "--to", name]) == 2
    assert f"pip install 'fedclip-track[{name}]'" in capsys.readouterr().err


def test_errors_of_ours_pass_unchanged():
    with pytest.raises(TrackError, match=r"^ours$"), asking("there"):
        raise TrackError("ours")
