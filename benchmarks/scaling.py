"""How rounds grow with the number of silos, with their images, and with the size of the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.setup.mpi_jobs import rounds_of, run_job
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.synthetic import WIDTH, Work
from benchmarks.setup.workload import Scale
from fedclip_plugin.federated.startup.memory_check import available_bytes
from fedclip_plugin.federated.startup.memory_estimate import BASE_OWN, BASE_SHARED

TITLE = "scaling: silos (oversubscribed on this machine), images, parameters; random features, rounds of one epoch"
FEW_IMAGES, SILOS = 16, 3
IMAGES = (100, 1_000, 10_000)
WIDTHS = (128, 512, 1024, 2048)
SIZES = [*((images, WIDTH) for images in IMAGES), *((FEW_IMAGES, width) for width in WIDTHS)]
_LIMIT_SECONDS = 1500.0
_MB = 1e6


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures."""
    figures: list[Figure] = []
    for count in scale.silos:
        need, room = BASE_SHARED + (count + 1) * BASE_OWN, available_bytes()
        if need > room:
            note = f"left out: takes {need / 1e9:.0f} GB of memory, and there are {room / 1e9:.0f} GB"
            figures.append(Figure(f"{count} silos", count, "-", note=note))
            continue
        ranks = federate(scale.rounds, work / f"scaling_{count}", count, [(FEW_IMAGES, WIDTH)])
        figures += by_silos(count, ranks, scale.skipped)
    ranks = federate(scale.rounds, work / "scaling_sizes", SILOS, SIZES)
    return figures + by_size(ranks[0]["federations"], scale.skipped)


def federate(rounds: int, results: Path, silos: int, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Run a federation on random features for each size (images of a silo, width) in one job; return its reports."""
    held = [str(Work((images,) * silos, images, width)) for images, width in sizes]
    words = ["--rounds", str(rounds), *held]
    return run_job("benchmarks.ranks.features_rank", words, results, ranks=silos + 1, limit=_LIMIT_SECONDS).ranks


def by_silos(count: int, ranks: Sequence[dict[str, Any]], skipped: int) -> list[Figure]:
    """Return how long a round of ``count`` silos takes, as a whole and for each of them, and what its ranks hold."""
    (found,) = ranks[0]["federations"]
    exchange = _milliseconds(found, "exchange", skipped)
    name, note = f"{count} silos", f"{found['parameters']:,} parameters, {FEW_IMAGES} images a silo"
    return [
        of_samples(f"{name}: round", _milliseconds(found, "round", skipped), "ms", note=note),
        of_samples(f"{name}: exchange", exchange, "ms"),
        of_samples(f"{name}: aggregate", _milliseconds(found, "aggregate", skipped), "ms"),
        Figure(f"{name}: exchange for each silo", median(exchange) / count, "ms", len(exchange)),
        Figure(f"{name}: the server's peak", ranks[0]["peak"] / _MB, "MB"),
    ]


def by_size(federations: Sequence[dict[str, Any]], skipped: int) -> list[Figure]:
    """Return how training grows with the images, and the exchange with the parameters; one federation of each size."""
    figures: list[Figure] = []
    for images, found in zip(IMAGES, federations, strict=False):
        train = _milliseconds(found, "train", skipped)
        figures += [
            of_samples(f"{images:,} images a silo: train", train, "ms", note="the slowest silo, 60 % of the images"),
            of_samples(f"{images:,} images a silo: evaluate", _milliseconds(found, "evaluate", skipped), "ms"),
            Figure(
                f"{images:,} images a silo: train, for 1,000 images", 1000 * median(train) / images, "ms", len(train)
            ),
        ]
    for found in federations[len(IMAGES) :]:
        exchange, size = _milliseconds(found, "exchange", skipped), 4 * found["parameters"]
        traffic = (last := rounds_of(found)[-1]).bytes_up + last.bytes_down
        figures += [
            of_samples(f"{size / _MB:.2f} MB of parameters: exchange", exchange, "ms", note=f"{SILOS} silos"),
            Figure(
                f"{size / _MB:.2f} MB of parameters: traffic", traffic / median(exchange) / 1000, "MB/s", len(exchange)
            ),
        ]
    return figures


def _milliseconds(found: dict[str, Any], phase: str, skipped: int) -> list[float]:
    """Return a phase of every round but the first ones."""
    return [1000 * record.seconds[phase] for record in rounds_of(found, skipped)]
