"""What Open MPI says of the rank with whose end the end of a job began."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended.

    Attributes
    ----------
    rank
        Which one, of all ranks of the job.
    code
        The exit code that it gave; None where a signal ended it, or where it left without a word.
    how
        What became of it, as words behind its name.
    """

    rank: int
    code: int | None
    how: str


def rank_end(block: str) -> RankEnd | None:
    """Return what a block says of the first rank that ended; None when it is about something else."""
    text = " ".join(block.split())
    if found := re.search(r"process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+)", text):
        return RankEnd(int(found[1]), None, f"was ended by signal {found[2]}")
    if found := re.search(r"MPI_ABORT was invoked on rank .*? Proc: \[\[\d+,\d+\],(\d+)\] Errorcode: (-?\d+)", text):
        return RankEnd(int(found[1]), int(found[2]), "stopped the job")
    if found := re.search(r"Process name: \[\S+@\d+,(\d+)\] Exit code: (\d+)", text):
        return RankEnd(int(found[1]), int(found[2]), f"ended with exit code {found[2]}")
    if found := re.search(r"due to process rank (\d+) with PID \d+ on node \S+ exiting improperly", text):
        return RankEnd(int(found[1]), None, "left without a word")
    return None
