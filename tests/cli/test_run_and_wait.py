"""The launcher and its job: signals, exit codes, what is safe, and no orphans; a shell stands for mpirun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.rank_ends import RankEnd
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.runs import RunFolder
from tests.support.paths import ROOT
from tests.support.round_records import round_record

ATTEND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
from fedclip_plugin.cli.mpirun.run_and_wait import attend
print(attend(sys.argv[1:], {}))
"""
RANK = """
import subprocess, sys
subprocess.run([sys.executable, "-c", '''
import os, time
from fedclip_plugin.cli.mpirun.run_and_wait import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
'''])
"""


class Attended:
    """A launcher that attends a shell script; the script says ``ready`` when it may be disturbed."""

    def __init__(self, script, before=()):
        words = [*before, sys.executable, "-c", ATTEND, "/bin/sh", "-c", script]
        self.launcher = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.first = self.launcher.stdout.readline().split()

    def end(self):
        told = self.launcher.stdout.read()  # communicate would pass over what readline has read ahead
        self.launcher.wait(timeout=30)
        return told.strip()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def gone(pid, limit=10.0):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_a_signal_reaches_the_job_once_and_makes_the_exit_code(name, code):
    job = Attended(f"trap 'echo once; exit 7' {name}; echo ready; while :; do sleep 0.05; done")
    job.launcher.send_signal(signal.Signals[f"SIG{name}"])
    assert job.end().splitlines() == ["once", repr(Ending(code, told=True))]


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", 137)])
def test_a_job_that_ends_by_itself_keeps_its_code(script, code):
    assert Attended(f"echo ready; {script}").end() == repr(Ending(code, told=False))


def test_nohup_is_respected():
    job = Attended("echo ready; sleep 0.5; echo done", before=("nohup",))
    job.launcher.send_signal(signal.SIGHUP)
    assert job.end().splitlines() == ["done", repr(Ending(0, told=False))]


def test_a_second_ctrl_c_ends_at_once():
    job = Attended("trap 'echo heard' INT; echo ready; while :; do sleep 0.05; done")
    job.launcher.send_signal(signal.SIGINT)
    assert job.launcher.stdout.readline() == "heard\n"
    time.sleep(0.6)
    job.launcher.send_signal(signal.SIGINT)
    assert job.end() == repr(Ending(130, told=True))


def test_a_job_is_suspended_and_goes_on():
    job = Attended("sleep 0.5; echo ready $$; sleep 0.5; echo done")  # the launcher is back from starting it
    shell = int(job.first[1])
    job.launcher.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, job.launcher.pid, os.WSTOPPED)
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(shell)], capture_output=True, text=True, check=True).stdout
    assert state.startswith("T")
    job.launcher.send_signal(signal.SIGCONT)
    assert job.end().splitlines() == ["done", repr(Ending(0, told=False))]


def test_the_job_ends_when_its_launcher_is_killed():
    job = Attended("echo $$; exec sleep 60")
    job.launcher.kill()
    job.launcher.wait()
    assert gone(int(job.first[0]))


def test_a_rank_ends_when_its_mpirun_is_killed():
    mpirun = subprocess.Popen([sys.executable, "-c", RANK], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    rank = int(mpirun.stdout.readline())
    mpirun.kill()
    mpirun.communicate()
    assert gone(rank)


_KILLED = "cartoon (rank 2) was ended by signal 9"
_FIRST = round_record(0).to_json() + "\n"


@pytest.mark.parametrize(
    ("lines", "safe"),
    [
        ("", "no round is complete yet in run; start it again with the same command"),
        (_FIRST, "no round is complete yet in run; start it again with the same command"),
        (f'{_FIRST}{round_record(1).to_json()}\n{{"rou', "round 1 is complete and safe in run; continue with --resume"),
    ],
)
@pytest.mark.parametrize(
    ("ending", "what"),
    [
        (Ending(130, told=True), "the job was terminated"),
        (Ending(137, told=False), "the job ended early"),
        (
            Ending(137, told=False, rank=RankEnd(2, None, "was ended by signal 9")),
            "the job ended early: cartoon (rank 2) was ended by signal 9",
        ),
        (Ending(1, told=False, rank=RankEnd(0, 1, "stopped the job")), "the job ended early"),
        (Ending(2, told=False), None),
        (Ending(0, told=False), None),
    ],
)
def test_the_launcher_says_what_is_safe(lines, safe, ending, what, elsewhere, monkeypatch, capsys):
    def attend(*_):
        RunFolder(folder).metrics.write_text(lines)
        return ending

    folder = Path("run")
    monkeypatch.setattr(Launch, "attend", attend)
    assert main(["launch", "miniature/clip_tiny_fedclip", "--run", "run"]) == ending.code
    if ending.code == 2 and "round 1 is complete" in safe:
        what = "the job ended early"  # such as a silo's refusal in the middle of a run
    assert capsys.readouterr().err == (f"fedclip: {what}; {safe}\n" if what else "")


def test_ctrl_c_before_the_job_is_one_line(elsewhere, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "check", interrupted)
    assert main(["launch", "miniature/clip_tiny_fedclip"]) == 130
    assert capsys.readouterr().err == "fedclip: interrupted\n"
