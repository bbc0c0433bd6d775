"""Seconds of a round by phase at 525,312 parameters and three silos, and plain FedML beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.setup.mpi_jobs import rounds_of, run_job
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.synthetic import Work
from benchmarks.setup.workload import PACS_SOURCES, PACS_TARGET, Scale

TITLE = "rounds: 525,312 parameters, three silos, one mpirun job of four ranks"
GOAL_MS = 30.0
_IDLE_IMAGES = 16
PHASES = {
    "train": "slowest silo",
    "evaluate": "slowest silo, validation and test",
    "aggregate": "server",
    "target": "server",
    "exchange": "FedML: what neither training, scoring nor averaging explains",
    "round": "from sending an adapter to sending the next",
}


@cache  # `memory` weighs the federation that `rounds` has timed
def federate(runner: str, rounds: int, busy: bool, work: Path) -> list[dict[str, Any]]:
    """Run one federation on random features, and return what its ranks reported.

    The runner is ``fedclip`` or plain ``fedml``; busy silos hold as many images as PACS's domains, others next to none.
    """
    held = Work(PACS_SOURCES, PACS_TARGET) if busy else Work((_IDLE_IMAGES,) * 3, _IDLE_IMAGES)
    words = ["--runner", runner, "--rounds", str(rounds), str(held)]
    ranks = run_job(
        "benchmarks.ranks.features_rank", words, work / f"rounds_{runner}_{'busy' if busy else 'idle'}"
    ).ranks
    return [rank["federations"][0] | {"peak": rank["peak"]} for rank in ranks]


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures; the four federations run one after the other."""
    figures: list[Figure] = []
    for busy in (True, False):
        rounds = scale.rounds if busy else scale.idle_rounds
        kind = "PACS's counts" if busy else f"{_IDLE_IMAGES} images a silo"
        ours, plain = (federate(runner, rounds, busy, work) for runner in ("fedclip", "fedml"))
        figures += compare(kind, ours, plain, scale.skipped)
    sizes = ours[1]["bytes"]
    figures += [
        Figure("message with an adapter, ours", sizes["fedclip"], "bytes", note=f"{sizes['tensors']:,} are tensors"),
        Figure("message with an adapter, plain FedML", sizes["fedml"], "bytes"),
    ]
    return figures


def compare(kind: str, ours: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], skipped: int) -> list[Figure]:
    """Return the phases of our rounds, plain FedML's, and their ratio, from what the ranks of the two jobs reported."""
    rounds = rounds_of(ours[0], skipped)
    figures = [
        of_samples(
            f"{kind}: {phase}",
            [1000 * record.seconds[phase] for record in rounds],
            "ms",
            at_most=GOAL_MS if phase == "exchange" else None,
            note=meaning,
        )
        for phase, meaning in PHASES.items()
    ]
    total, rest = plain_rounds(plain, skipped)
    overhead = of_samples(
        f"{kind}: plain FedMLRunner, exchange", rest, "ms", note="as ours; evaluates on no silo, saves no adapter"
    )
    wall = of_samples(f"{kind}: plain FedMLRunner, round", total, "ms")
    ratio = Figure(
        f"{kind}: exchange, plain FedML / ours", overhead.value / figures[list(PHASES).index("exchange")].value, "x"
    )
    return [*figures, overhead, wall, ratio]


def plain_rounds(ranks: Sequence[dict[str, Any]], skipped: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of plain FedML's rounds, whole and without training, averaging and testing."""
    server = ranks[0]["spans"]
    before, after, test = (server[name] for name in ("on_before_aggregation", "on_after_aggregation", "test"))
    total, rest = [], []
    for number in range(skipped, len(after)):
        wall = after[number][1] - after[number - 1][1]
        train = max(end - begin for begin, end in (rank["spans"]["train"][number] for rank in ranks[1:]))
        average = after[number][1] - before[number][0]
        scoring = test[number - 1][1] - test[number - 1][0]  # of the round before: it lies in this interval
        total.append(1000 * wall)
        rest.append(1000 * (wall - train - average - scoring))
    return total, rest
