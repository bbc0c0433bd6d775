"""Which rank ended first, and where ranks run, is read from what Open MPI writes; the rest of it is shown as it is."""

import signal
import time

import pytest

from fedclip_plugin.cli.mpirun import run_and_wait
from fedclip_plugin.cli.mpirun.advice import Advice
from fedclip_plugin.cli.mpirun.rank_ends import RankEnd, rank_end
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, attend

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTOU)
FRAME = "-" * 74
KILLED = """prterun noticed that process rank 2 with PID 2004 on node vm exited on
signal 9 (Killed)."""
EXITED = """prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-vm-2017@1,2]
   Exit code:    5"""
ABORTED = """MPI_ABORT was invoked on rank 0 in communicator MPI COMMUNICATOR 3 SPLIT_TYPE FROM 0
  Proc: [[12596,1],3]
  Errorcode: 1

NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes."""
CALLED_ABORT = """prterun has exited due to process rank 3 with PID 0 on node vm calling
"abort". This may have caused other processes in the application to be"""
LEFT = """prterun has exited due to process rank 2 with PID 2040 on node vm exiting
improperly. There are three reasons this could occur:"""


def test_a_server_that_ends_its_job_well_is_no_advice():
    """It has waited for a silo that never answers, and says so itself (round_grace)."""
    abort = (
        "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD\n  Proc: [[17130,1],0]\n  Errorcode: 0\n\n"
        "NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes."
    )
    ends = (
        "prterun has exited due to process rank 0 with PID 0 on node vm calling\n"
        '"abort". This may have caused other processes in the application to be\nterminated by signals sent by prterun.'
    )
    both = f"{FRAME}\n{abort}\n{FRAME}\n{FRAME}\n{ends}\n{FRAME}\n \nend\n"
    advice = Advice()
    assert advice.pass_on(both.encode()) == b"end\n"
    assert advice.ended_well
    failed = both.replace("Errorcode: 0", "Errorcode: 1")
    advice = Advice()
    assert advice.pass_on(failed.encode()) == failed.encode()
    assert not advice.ended_well


@pytest.mark.parametrize(
    ("block", "end"),
    [
        (KILLED, RankEnd(2, None, "was ended by signal 9")),
        (EXITED, RankEnd(2, 5, "ended with exit code 5")),
        (ABORTED, RankEnd(3, 1, "stopped the job")),
        (CALLED_ABORT, None),
        (LEFT, RankEnd(2, None, "left without a word")),
        ("A request was made to bind that would require binding", None),
    ],
)
def test_a_block_tells_how_which_rank_ended(block, end):
    assert rank_end(block) == end
    advice, text = Advice(), f"round 1\n{FRAME}\n{block}\n{FRAME}\n".encode()
    assert advice.pass_on(text) == text, "it is shown as it is"
    assert advice.rank == end


def test_the_first_of_several_blocks_is_the_cause():
    advice = Advice()
    advice.pass_on("".join(f"{FRAME}\n{block}\n{FRAME}\n" for block in (ABORTED, CALLED_ABORT, KILLED)).encode())
    assert advice.rank == RankEnd(3, 1, "stopped the job")


@pytest.mark.parametrize("step", [1, 5, 10_000])
@pytest.mark.parametrize("kept", [True, False])
def test_where_ranks_are_is_read_line_by_line(step, kept):
    lines = [
        b"[vm-3:06709] Rank 2 is not bound (or bound to all available processors)\n",
        b"[vm-2:06711] Rank 1 bound to package[0][core:0]\n",
    ]
    text, advice = b"".join([b"[round 1]\n", *lines, b"end"]), Advice(keep_places=kept)
    shown = b"".join(advice.pass_on(text[at : at + step]) for at in range(0, len(text), step)) + advice.rest()
    assert shown == (b"[round 1]\nend" if kept else text)
    assert advice.nodes == ({2: "vm-3", 1: "vm-2"} if kept or step > 100 else {})


def test_mpirun_that_waits_for_a_host_is_ended_with_all_that_holds_its_streams(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(run_and_wait, "_END_SECONDS", 0.3)
    said = tmp_path / "said"
    said.write_text(f"{FRAME}\n{ABORTED}\n{FRAME}\n")
    kept = {number: signal.getsignal(number) for number in _HANDLED}
    began = time.monotonic()
    try:
        ending = attend(["/bin/sh", "-c", f"sleep 60 & cat {said} >&2; sleep 60"], {}, (Advice(), Advice()))
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert ending == Ending(1, told=False) and time.monotonic() - began < 5
    assert "fedclip: mpirun has not ended 0 s after the job, as a host does not answer" in capfd.readouterr().err
