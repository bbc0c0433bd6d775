"""A folder belongs to one process at a time: who comes second is told by whom, and nothing outlives its holder."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.errors import FolderInUseError, RunFolderError
from fedclip_plugin.federated.startup import preflight as opening
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder, lock
from fedclip_plugin.runs.lock import FolderLock
from fedclip_plugin.study import ResultsFolder
from tests.support.study_samples import sample_results, write_study

HOLD = """
import sys, time
from pathlib import Path
from fedclip_plugin.runs.lock import FolderLock
FolderLock(Path(sys.argv[1]), "it").take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch, tmp_path):
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    monkeypatch.chdir(tmp_path)


def held_by_me(what, more=""):
    return rf"{what} is in use by process {os.getpid()} on {os.uname().nodename}: wait until it has ended{more}"


def test_a_lock_dies_with_its_holder(tmp_path, monkeypatch):
    other = subprocess.Popen([sys.executable, "-c", HOLD, "x.lock"], stdout=subprocess.PIPE)
    other.stdout.readline()
    mine = FolderLock(tmp_path / "x.lock", "it", "go elsewhere")
    for ask in (mine.take, mine.require_free):
        with pytest.raises(FolderInUseError, match=f"it is in use by process {other.pid} on .*, or go elsewhere"):
            ask()
    monkeypatch.setattr(lock, "_PATIENCE", 10.0)
    other.kill()
    mine.take()
    other.communicate()
    mine.release()
    assert not (tmp_path / "x.lock").exists()
    mine.require_free()
    assert not (tmp_path / "x.lock").exists()


def test_a_file_that_was_removed_by_its_holder_is_not_what_is_locked(tmp_path, monkeypatch):
    first, second = (FolderLock(tmp_path / "x.lock", "it") for _ in range(2))
    first.take()
    taken = fcntl.flock

    def late(descriptor, how):
        first.release()
        taken(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second.take()
    assert (tmp_path / "x.lock").read_text().startswith(f"{os.getpid()} ")


def test_who_waits_goes_on_when_the_holder_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 10.0)
    for ask in (FolderLock.require_free, FolderLock.take):
        first = FolderLock(tmp_path / "x.lock", "it")
        first.take()
        monkeypatch.setattr(lock.time, "sleep", lambda _, first=first: first.release())
        ask(FolderLock(tmp_path / "x.lock", "it"))
        assert first._held is None  # it was waited for


@pytest.mark.parametrize("note", ["", "\x1b]0;pwned\x07", "12"])
def test_a_note_that_says_nothing_is_not_repeated(note, tmp_path):
    with FolderLock(tmp_path / "x.lock", "it").held():
        (tmp_path / "x.lock").write_text(note)
        with pytest.raises(FolderInUseError, match=r"^it is in use by another process: wait until it has ended$"):
            FolderLock(tmp_path / "x.lock", "it").take()


def test_where_there_are_no_locks_it_is_said_and_work_goes_on(tmp_path, monkeypatch, caplog):
    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with FolderLock(tmp_path / "x.lock", "run folder r").held():
        assert "the file system of run folder r has no locks: let no other job work in it" in caplog.text


def test_a_second_job_is_refused_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Launch, "attend", lambda *_: pytest.fail("mpirun was started"))
    RunFolder(tmp_path / "run").claim()
    assert main(["launch", "miniature/clip_tiny_fedclip", "--run", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"run folder {tmp_path / 'run'} is in use by process {os.getpid()}" in told
    assert "or name another with --run" in told
    results = ResultsFolder(tmp_path / "results")
    results.claim()
    assert main(["study", str(write_study(tmp_path / "s.yaml")), "--out", str(results.path)]) == 2
    told = capsys.readouterr().err
    assert f"results folder {results.path} is in use by process {os.getpid()}" in told
    assert "--resume" not in told


def test_a_launcher_keeps_others_out_before_its_server_is_there(tmp_path, monkeypatch, capsys):
    command, study = ["launch", "miniature/clip_tiny_fedclip", "--run", "run"], str(write_study(tmp_path / "s.yaml"))
    for words in (command, ["study", study, "--out", "results"]):
        codes = []

        def attend(*_, words=words, codes=codes):
            monkeypatch.setattr(Launch, "attend", lambda *_: pytest.fail("mpirun was started"))
            codes.append(main(words))
            return Ending(0, told=False)

        monkeypatch.setattr(Launch, "attend", attend)
        assert main(words) == 0
        assert codes == [2]
        assert f"is in use by process {os.getpid()}" in capsys.readouterr().err
        assert not list((tmp_path / words[-1]).iterdir())


def test_the_server_looks_again_before_it_touches_the_folder(tmp_path):
    RunFolder(tmp_path / "run").claim()
    before = sorted(tmp_path.rglob("*"))
    recipe = load_recipe(find_recipe("miniature/clip_tiny_fedclip"))
    with pytest.raises(FolderInUseError, match=held_by_me("run folder .*/run", ", or name another with --run")):
        opening._prepare(RunFolder(tmp_path / "run"), recipe, False, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_that_was_kept_out_leaves_the_other_ones_notes_alone(tmp_path, monkeypatch, capsys):
    results = ResultsFolder(tmp_path / "results")

    def attend(*_):
        results.claim()
        results.failures.begin("fedclip/photo/seed_0_point_1")
        return Ending(2, told=False)

    monkeypatch.setattr(Launch, "attend", attend)
    assert main(["study", str(write_study(tmp_path / "s.yaml")), "--out", str(results.path)]) == 2
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err
    assert results.failures.count() == ["fedclip/photo/seed_0_point_1"]


def test_a_second_report_is_refused_and_a_job_is_no_hindrance(tmp_path, capsys):
    sample_results(tmp_path / "results")
    ResultsFolder(tmp_path / "results").claim()
    with FolderLock(tmp_path / "results" / ".report.lock", "it").held():
        assert main(["report", "--study", "results"]) == 2
        assert "the report of results is in use by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda place: place.symlink_to("nowhere"), "is a link to nowhere, which does not exist; make that folder, or"),
        (lambda place: place.write_text("x"), "is a file; name another with"),
        (lambda place: place.mkdir(), "is read-only for you; name another with"),
    ],
)
@pytest.mark.parametrize("below", ["", "deeper/run"])
def test_a_place_that_cannot_be_used_is_named_before_anything_starts(make, told, below, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Launch, "attend", lambda *_: pytest.fail("mpirun was started"))
    make(tmp_path / "place")
    if (tmp_path / "place").is_dir():
        monkeypatch.setattr("os.access", lambda path, mode: False)
    place = str(tmp_path / "place" / below)
    study = write_study(tmp_path / "s.yaml")
    for words, option in (
        (["launch", "miniature/clip_tiny_fedclip", "--run", place], "--run"),
        (["study", str(study), "--out", place], "--out"),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.rstrip().endswith(f"name another with {option}")


def test_a_claim_makes_the_folder_and_says_what_the_disk_says(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder(tmp_path / "a" / "run")
    folder.claim()
    folder.release()
    assert list(folder.path.iterdir()) == []
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RunFolderError, match="run cannot be written: No space left on device; free some space there"):
        folder.claim()


def test_waiting_for_the_last_of_a_killed_job_takes_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)
    with FolderLock(tmp_path / "x.lock", "it").held():
        began = time.monotonic()
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path / "x.lock", "it").take()
        assert 0.3 <= time.monotonic() - began < 5


def test_a_lock_whose_folder_was_made_again_is_taken_anew(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    mine = FolderLock(folder / ".lock", "run folder run")
    mine.take()
    shutil.rmtree(folder)
    folder.mkdir()
    mine.take()
    with pytest.raises(FolderInUseError, match="is in use"):
        FolderLock(folder / ".lock", "run folder run").require_free()
