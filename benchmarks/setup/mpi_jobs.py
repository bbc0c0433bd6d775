"""Run a module of this package as an mpirun job, and hear what its ranks measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.ranks import threads_per_rank

if TYPE_CHECKING:
    from fedclip_plugin.runs import RoundRecord

RANKS = 4
_LIMIT_SECONDS = 300


@dataclass(frozen=True)
class JobResult:
    """What each rank of an mpirun job reported, in their order.

    It ``began`` in seconds of ``time.monotonic``, which all processes of a machine share.
    """

    began: float
    ranks: list[dict[str, Any]]


def run_job(
    module: str,
    words: Sequence[str],
    results: Path,
    ranks: int = RANKS,
    limit: float = _LIMIT_SECONDS,
    variables: Mapping[str, str] | None = None,
) -> JobResult:
    """Run ``python -m module results words...`` on several ranks, with the product's own mpirun command.

    ``variables`` come on top of the environment. The ranks call :func:`report`, whose folder ``results`` is emptied
    first. A job that fails, or takes longer than ``limit`` seconds, raises; the error holds the end of its output.
    """
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    command = Launch(ranks).command([sys.executable, "-m", module, str(results), *words])
    began = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads_per_rank(ranks))} | dict(variables or {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, env=environment)
    if done.returncode:
        raise RuntimeError(f"{module} ended with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    files = [results / f"rank_{rank}.json" for rank in range(ranks)]
    return JobResult(began, [json.loads(file.read_text(encoding="utf-8")) for file in files])


def rank_process(rank: int, word: str) -> int | None:
    """Return the process of a rank of the job on this machine that has ``word`` on its command line; None without."""
    own = f"PMIX_RANK={rank}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            named = word.encode() in (place / "cmdline").read_bytes()
            if named and own in (place / "environ").read_bytes().split(b"\0"):
                return int(place.name)
        except OSError:  # it is gone, or another user's
            continue
    return None


def report(results: Path, facts: dict[str, Any]) -> None:
    """Write what this rank measured, for :func:`run_job` to read."""
    rank = os.environ["OMPI_COMM_WORLD_RANK"]
    (results / f"rank_{rank}.json").write_text(json.dumps(facts), encoding="utf-8")


def rounds_of(reported: Mapping[str, Any], skipped: int = 0) -> list[RoundRecord]:
    """Return the rounds that a report holds after the first ``skipped`` ones, round 0 left out in any case."""
    from fedclip_plugin.runs import RoundRecord  # a bare rank reports without it

    records = [RoundRecord.model_validate_json(line) for line in reported["rounds"]]
    return [record for record in records if record.round > skipped]
