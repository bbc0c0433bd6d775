"""From mpirun to the first round with a warm cache, beside as many ranks that only import fedml; the short commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.setup.command_times import command_times
from benchmarks.setup.mpi_jobs import JobResult, run_job
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import Scale

TITLE = (
    "startup: the miniature recipe with a warm cache, four ranks; phases as the server's rank sees them; short commands"
)
RECIPE = ("miniature/clip_tiny_fedclip", "train_args.comm_round=2")
GOAL = 0.7
PHASES = (
    "python",
    "import torch",
    "import fedml",
    "import fedclip_plugin",
    "mpi",
    "listing",
    "features",
    "first round",
)
_MEANING = {
    "python": "mpirun and the interpreter",
    "import fedml": "without the modules that a federation over MPI does not use",
    "import fedclip_plugin": "and checking the recipe",
    "mpi": "MPI, FedML's arguments, run folder",
    "listing": "own images, fingerprint, status of all ranks; waits for the slowest rank",
    "features": "read from the cache on every rank",
    "first round": "until all silos have trained it",
}


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures; starts and bare imports alternate, after one start that warms the caches."""
    _start(work)
    starts, imports = [], []
    for _ in range(scale.starts):
        imports.append(run_job("benchmarks.ranks.job_rank", [], work / "startup_import"))
        starts.append(_start(work))
    return [*summarize(starts, imports), *command_times(scale.commands, work)]


def summarize(starts: Sequence[JobResult], imports: Sequence[JobResult]) -> list[Figure]:
    """Return phases, totals and their ratio from as many starts as bare imports."""
    phases = [
        of_samples(phase, [_phase(start, phase) for start in starts], "s", note=_MEANING.get(phase, ""))
        for phase in PHASES
    ]
    bare = [max(rank["steps"]["import fedml"] for rank in job.ranks) - job.began for job in imports]
    begins = [start.ranks[0]["steps"]["features"] - start.began for start in starts]
    done = [start.ranks[0]["steps"]["first round"] - start.began for start in starts]
    loaded = [sum(rank["transformers"] for rank in start.ranks) for start in starts]
    return [
        *phases,
        of_samples("mpirun to the first round", begins, "s", note="until training begins"),
        of_samples("mpirun to the end of the first round", done, "s"),
        of_samples("four ranks import fedml at once", bare, "s", note="under the same mpirun, until the last is done"),
        of_samples(
            "to the first round / import fedml",
            [begin / base for begin, base in zip(begins, bare, strict=True)],
            "x",
            at_most=GOAL,
            note="each start against the import just before it",
        ),
        of_samples(
            "processor time, two rounds included / import fedml",
            [_processor(start) / _processor(base) for start, base in zip(starts, imports, strict=True)],
            "x",
            note="of all ranks; depends less on what else runs",
        ),
        Figure("to the end of the first round / import fedml", median(done) / median(bare), "x", len(done)),
        Figure("ranks that import transformers", max(loaded), "-", len(loaded), at_most=0),
    ]


def _start(work: Path) -> JobResult:
    return run_job("benchmarks.ranks.job_rank", RECIPE, work / "startup")


def _processor(job: JobResult) -> float:
    return sum(float(rank["processor"]) for rank in job.ranks)


def _phase(start: JobResult, phase: str) -> float:
    steps = start.ranks[0]["steps"]
    index = PHASES.index(phase)
    before = start.began if index == 0 else steps[PHASES[index - 1]]
    return float(steps[phase] - before)
