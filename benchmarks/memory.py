"""Resident memory of each rank in a federation at 525,312 parameters, beside a rank that only imports fedml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.rounds import federate
from benchmarks.setup.mpi_jobs import run_job
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import Scale

TITLE = "memory: resident bytes of a rank, at PACS's counts of images and 525,312 parameters"
_MB = 1e6


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return peaks and growth from the federation of ``rounds`` and four ranks that only import fedml."""
    bare = run_job("benchmarks.ranks.job_rank", [], work / "memory_import").ranks
    server, *silos = federate("fedclip", scale.rounds, True, work)
    base = of_samples("a rank that only imports fedml, peak", [rank["peak"] / _MB for rank in bare], "MB")
    silo = of_samples("a silo's rank, peak", [rank["peak"] / _MB for rank in silos], "MB", note="median of the silos")
    return [
        base,
        Figure("the server's rank, peak", server["peak"] / _MB, "MB"),
        silo,
        Figure("a silo's rank / a bare import of fedml", silo.value / base.value, "x"),
        Figure("growth a round, server", growth(server["memory"], scale.skipped) / _MB, "MB", note=_RISE),
        of_samples("growth a round, silo", [growth(rank["memory"], scale.skipped) / _MB for rank in silos], "MB"),
    ]


_RISE = "last quarter of the rounds against the quarter before; 0 but for the allocator's noise"


def growth(samples: Sequence[int], skipped: int) -> float:
    """Return bytes a round by which memory rises late in a run, from resident bytes after each round."""
    late = samples[skipped:]
    quarter = max(1, len(late) // 4)
    return (median(late[-quarter:]) - median(late[-2 * quarter : -quarter] or late[:1])) / quarter
