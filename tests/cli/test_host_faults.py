"""What Open MPI says of hosts becomes one line; options after ``--`` reach it, but those that it gives itself."""

import sys
from pathlib import Path

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.advice import Advice
from fedclip_plugin.cli.mpirun.command import Launch, require_options
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, attend
from fedclip_plugin.errors import FedClipError

FRAME = "-" * 60
UNREACHABLE = f"""{FRAME}
A daemon failed to report back after being spawned. This could
be due to several factors, including inability to find the
daemon executable:

  Local host:    head
  Remote host:   north
  Daemon exit status: CODE

This may also be caused by a firewall on the remote host.
{FRAME}
"""
LOST = f"""{FRAME}
PRTE has lost communication with a remote daemon.

  HNP daemon   : [prterun-head-1@0,0] on node head
  Remote daemon: [prterun-head-1@0,2] on node south

This is usually due to either a failure of the TCP network
{FRAME}
"""
NO_PROGRAM = f"""{FRAME}
prterun was unable to launch the specified application as it could not
access an executable:

   Executable: /opt/venv/bin/python
   Node: south

while attempting to start process rank 0.
{FRAME}
"""
NO_AGENT = f"{FRAME}\nNo available launching agents were found.\n{FRAME}\n"
OTHER = f"{FRAME}\nA request was made to bind that would require binding\n{FRAME}\n"


def read(text, step):
    """Let a text through in pieces of some bytes, and return what is shown of it and the fault."""
    advice, raw = Advice(), text.encode()
    shown = b"".join(advice.pass_on(raw[at : at + step]) for at in range(0, len(raw), step)) + advice.rest()
    return shown.decode(), advice.host


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("block", "told", "began"),
    [
        (UNREACHABLE.replace("CODE", "255"), "host north cannot be reached by ssh: 'ssh north true' must work", False),
        (UNREACHABLE.replace("CODE", "127"), f"install the same environment there, at {sys.prefix}", False),
        (UNREACHABLE.replace("CODE", "0"), "host north does not answer, or no longer", True),
        (LOST, "the connection to host south was lost", True),
        (NO_PROGRAM, "host south has no /opt/venv/bin/python: install the same environment", False),
        (NO_AGENT, "install openssh-client", False),
    ],
)
def test_a_block_about_a_host_is_one_line_and_all_else_is_shown(block, told, began, step):
    shown, fault = read(f"round 1\r\n{block}\nround 2\nbar 3", step)
    assert shown == "round 1\r\nround 2\nbar 3"
    assert told in fault.text and "\n" not in fault.text and fault.began is began


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize("text", [OTHER, OTHER[:-30], "---\nx\n", FRAME, f"{FRAME}\n" + "x\n" * 20_000, "a\n\n\nb"])
def test_what_is_about_something_else_is_shown_as_it_is(text, step):
    assert read(text, step) == (text, None)


def test_what_has_no_end_of_line_is_shown_at_once():
    advice = Advice()
    assert advice.pass_on(b"encoding  10 %|") == b"encoding  10 %|"
    assert advice.pass_on(b"\rencoding  20 %|") == b"\rencoding  20 %|"


def test_both_streams_of_a_job_go_through(capfdbinary):
    script = f"printf '%s' '{NO_AGENT}'; echo said; echo complained >&2; exit 3"
    advice = (Advice(), Advice())
    assert attend(["/bin/sh", "-c", script], {}, advice).code == 3
    assert capfdbinary.readouterr() == (b"said\n", b"complained\n")
    assert advice[0].host is not None and advice[1].host is None


def test_the_launcher_says_it_and_that_nothing_was_started(monkeypatch, tmp_path, capfd):
    (tmp_path / "hosts").write_text("head slots=1\nnorth slots=3\n")
    said = tmp_path / "said"
    said.write_text(UNREACHABLE.replace("CODE", "255"))
    monkeypatch.setattr(Launch, "command", lambda *_: ["/bin/sh", "-c", f"cat {said}; exit 255"])
    assert main(["launch", "miniature/clip_tiny_fedclip", "--hostfile", str(tmp_path / "hosts")]) == 2
    told = capfd.readouterr()
    assert "north cannot be reached by ssh" in told.err and told.err.endswith("; nothing was started\n")
    assert told.err.count("\n") == 1 and FRAME not in told.out


def test_options_behind_two_dashes_reach_mpirun(monkeypatch, tmp_path):
    hosts, launched = tmp_path / "hosts", []
    hosts.write_text("head slots=4\n")

    def attended(self, program):
        launched.append((self, program))
        raise FedClipError("enough")

    monkeypatch.setattr(Launch, "attend", attended)
    monkeypatch.chdir(tmp_path)
    words = ["launch", "miniature/clip_tiny_fedclip", "--hostfile", "hosts"]
    assert main([*words, "--", "--mca", "btl_tcp_if_include", "10.0.0.0/24", "--bind-to", "core"]) == 2
    job, program = launched[0]
    command = job.command(program)
    assert command[: command.index(program[0])][-5:] == [
        "--mca",
        "btl_tcp_if_include",
        "10.0.0.0/24",
        "--bind-to",
        "core",
    ]
    assert "none" not in command and ":OVERSUBSCRIBE" in command
    assert all(Path(program[at]).is_absolute() for at in (4, 6))  # recipe and run folder
    assert program[6] == str(tmp_path / "runs" / "miniature_clip_tiny_fedclip")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["python"], "python after --: there stand options of mpirun"),
        (["--mca", "x", "y", "-np", "3"], "-np after --: the recipe says how many ranks there are"),
        (["--n=3"], "--n=3 after --: the recipe says"),
        (["--host", "a,b"], "--host after --: give hosts as --hostfile FILE before --"),
        (["-hostfile", "hosts"], "-hostfile after --: give hosts"),
        (["--app", "x"], "--app after --: the recipe says what the ranks run"),
    ],
)
def test_options_that_the_launcher_gives_are_refused(words, told):
    with pytest.raises(FedClipError, match=told):
        require_options(words)


@pytest.mark.parametrize("code", [66, 181, 183, 213])
def test_options_that_mpirun_refuses_are_bad_input(code, monkeypatch):
    monkeypatch.setattr(Launch, "_announced", lambda self, program, watch: program)
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", lambda *given: Ending(code, told=False))
    with pytest.raises(FedClipError, match=r"mpirun refused the options after --, --bogus: see its message") as told:
        Launch(2, options=("--bogus",)).attend(["x"])
    assert told.value.exit_code == 2
    assert Launch(2).attend(["x"]).code == code, "without options it is about something else"


@pytest.mark.parametrize("ending", [Ending(1, False), Ending(2, False), Ending(137, False), Ending(143, True)], ids=str)
def test_what_ranks_end_with_is_not_laid_to_options(ending, monkeypatch):
    monkeypatch.setattr(Launch, "_announced", lambda self, program, watch: program)
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", lambda *given: ending)
    assert Launch(2, options=("--tag-output",)).attend(["x"]) == ending


def test_one_process_takes_no_options_of_mpirun(capsys):
    words = ["launch", "simulation/clip_tiny_fedclip", "--set", "comm_args.backend=sp"]
    assert main([*words, "--", "--tag-output"]) == 2
    assert "backend: sp is one process without mpirun" in capsys.readouterr().err
