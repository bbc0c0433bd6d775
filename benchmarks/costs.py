"""FedCLIP against full fine-tuning under FedAvg, each a whole federation: seconds, bytes and memory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.random_clip import random_clip
from benchmarks.scaling import federate as random_federations
from benchmarks.setup.mpi_jobs import rounds_of, run_job
from benchmarks.setup.random_images import write_silos
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import PACS_SOURCES, Scale
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.federated.startup.memory_estimate import BASE_SHARED, footprint
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RoundRecord

TITLE = "costs: FedCLIP against full fine-tuning under FedAvg; two silos, from image files to the last round"
RECIPE = "own_images/vit_b32_sigmoid_gate_silo_folders"
SILOS = ("silo_a", "silo_b")
ROUNDS = 200
TIME_GOAL, BYTES_GOAL, INT8_GOAL = 283.0, 288.0, 1100.0
PHASES = ("train", "evaluate", "aggregate", "exchange", "round")
_LIMIT_SECONDS = 3000.0
_MB = 1e6

METHODS = {
    "fedclip": ("FedCLIP", ["fedclip_args.method=fedclip"]),
    "int8": ("FedCLIP, int8", ["fedclip_args.method=fedclip", "fedclip_args.codec=int8"]),
    "full": ("full", ["fedclip_args.method=full"]),
}
"""Key to name and recipe; ``int8`` finds the features that ``fedclip`` has encoded."""


@dataclass(frozen=True)
class Federation:
    """A finished job of ``benchmarks.ranks.job_rank``: what its ranks reported, and the images of each silo."""

    ranks: Sequence[dict[str, Any]]
    images: int

    @property
    def server(self) -> dict[str, Any]:
        """The server's report."""
        return self.ranks[0]

    @cached_property
    def rounds(self) -> list[RoundRecord]:
        """The rounds that trained."""
        return rounds_of(self.server)

    @property
    def peaks(self) -> list[int]:
        """Highest resident bytes of each rank, the server's first."""
        return [rank["peak"] for rank in self.ranks]

    def phase(self, name: str) -> list[float]:
        """Return the seconds of a phase in each round."""
        return [record.seconds[name] for record in self.rounds]

    def bytes_a_silo(self, way: str) -> float:
        """Return bytes that a silo sends (``up``) or receives (``down``) in a round, the mean over rounds."""
        sent = sum(record.bytes_up if way == "up" else record.bytes_down for record in self.rounds)
        return sent / len(self.rounds) / (len(self.ranks) - 1)

    def seconds(self, rounds: int) -> float:
        """Return seconds from loading to the last of ``rounds`` rounds: as measured, or extrapolated beyond that."""
        if rounds == len(self.rounds):
            return float(self.server["total"])
        return float(self.server["set_up"]) + rounds * median(self.phase("round"))

    def seconds_with(self, images: int, rounds: int) -> float:
        """Return the same for silos of so many images, which training and evaluation take as long for as here."""
        of_images = median(a + b for a, b in zip(self.phase("train"), self.phase("evaluate"), strict=True))
        rest = max(0.0, median(self.phase("round")) - of_images)
        return float(self.server["set_up"]) + rounds * (of_images * images / self.images + rest)

    def forward_seconds(self) -> float:
        """Return the seconds of evaluating one image, in the silo that takes longest."""
        evaluated = max(sum(silo.images.values()) for silo in self.rounds[0].silos.values())
        return median(self.phase("evaluate")) / evaluated


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: clip-tiny first, then a random-weight ViT-B/32 with the goals."""
    large = random_clip(work, scale.small_backbone)
    name = "small CLIP" if scale.small_backbone else "ViT-B/32"
    tiny = federate(BUILT_IN, scale.cost_tiny_images, scale, work / "costs_tiny")
    figures = compare("clip-tiny", tiny, cached_round(locate_backbone(BUILT_IN), scale, work), goals=False)
    found = federate(str(large.resolve()), scale.cost_images, scale, work / "costs")
    figures += compare(name, found, cached_round(large, scale, work), goals=not scale.small_backbone)
    recipe = load_recipe(find_recipe(RECIPE), _overrides("full", str(large.resolve()), scale, work))
    need, (server, *silos) = footprint(recipe, large, scale.cost_images), found["full"].peaks
    return [
        *figures,
        Figure(f"{name}: full, server, estimate / peak", (need.server + BASE_SHARED) / server, "x", note=_ESTIMATE),
        Figure(f"{name}: full, silo, estimate / peak", (need.silo + BASE_SHARED) / max(silos), "x", note=_ESTIMATE),
    ]


_ESTIMATE = "the estimate by which a run that cannot fit is refused; it is to be a little high"


def federate(backbone: str, images: int, scale: Scale, work: Path) -> dict[str, Federation]:
    """Run a federation of each method, one mpirun job after the other.

    The run folders are removed, full adapters are large. One that fails, such as for memory, raises ``RuntimeError``.
    """
    write_silos(work / "silos", SILOS, images)
    shutil.rmtree(work / "features", ignore_errors=True)
    found = {}
    for method in METHODS:
        results = work / method
        job = run_job(
            "benchmarks.ranks.job_rank",
            [RECIPE, *_overrides(method, backbone, scale, work)],
            results,
            ranks=len(SILOS) + 1,
            limit=_LIMIT_SECONDS,
        )
        shutil.rmtree(results / "run")
        found[method] = Federation(job.ranks, images)
    return found


def cached_round(backbone: Path, scale: Scale, work: Path) -> float:
    """Return the seconds of a round of FedCLIP with PACS's largest domain in each silo, as cached features."""
    size = (max(PACS_SOURCES), read_clip_config(backbone).dim)
    server = random_federations(scale.rounds, work / "costs_cached", len(SILOS), [size])[0]
    return median(record.seconds["round"] for record in rounds_of(server["federations"][0], scale.skipped))


def compare(name: str, found: Mapping[str, Federation], cached: float, goals: bool) -> list[Figure]:
    """Return what each method costs, and the ratios; ``cached`` is from :func:`cached_round`."""
    figures = [figure for method, (title, _) in METHODS.items() for figure in costs(f"{name}: {title}", found[method])]
    figures += ratios(name, found["full"], found["fedclip"], found["int8"], goals)
    return [*figures, *at_pacs(name, found["full"], found["fedclip"], cached, goals)]


def costs(name: str, found: Federation) -> list[Figure]:
    """Return the figures of one federation."""
    server, count = found.server, len(found.rounds)
    images = f"{found.images} images a silo, {server['precision']}"
    whole = "measured" if count == ROUNDS else f"EXTRAPOLATED from {count} measured rounds"
    return [
        Figure(f"{name}, parameters trained and sent", server["parameters"], "-"),
        Figure(f"{name}, before round 1", server["set_up"], "s", note=f"loading and encoding; {images}"),
        *(of_samples(f"{name}, {phase}", [1000 * each for each in found.phase(phase)], "ms") for phase in PHASES),
        Figure(f"{name}, {ROUNDS} rounds", found.seconds(ROUNDS), "s", count, note=whole),
        Figure(f"{name}, up a round and silo", found.bytes_a_silo("up"), "bytes", count),
        Figure(f"{name}, down a round and silo", found.bytes_a_silo("down"), "bytes", count),
        Figure(f"{name}, server's peak", found.peaks[0] / _MB, "MB"),
        of_samples(f"{name}, a silo's peak", [peak / _MB for peak in found.peaks[1:]], "MB"),
    ]


def ratios(name: str, full: Federation, ours: Federation, int8: Federation, goals: bool) -> list[Figure]:
    """Return full fine-tuning against FedCLIP, each resource on its own line."""

    def traffic(one: Federation) -> float:
        """Return bytes a round and silo, both ways."""
        return one.bytes_a_silo("up") + one.bytes_a_silo("down")

    def ratio(what: str, value: float, goal: float | None = None, note: str = "") -> Figure:
        """Return a ratio that has a goal where ``goals`` says so."""
        return Figure(f"{name}: {what}, full / FedCLIP", value, "x", at_least=goal if goals else None, note=note)

    count, parameters = len(full.rounds), full.server["parameters"] / ours.server["parameters"]
    return [
        ratio(
            f"time of {ROUNDS} rounds",
            full.seconds(ROUNDS) / ours.seconds(ROUNDS),
            TIME_GOAL,
            f"full EXTRAPOLATED from {count} rounds; {full.images} images a silo",
        ),
        ratio("time of a round", median(full.phase("round")) / median(ours.phase("round"))),
        ratio("bytes a round", traffic(full) / traffic(ours), BYTES_GOAL, f"parameters alone: {parameters:.2f}"),
        ratio("bytes a round, int8", traffic(full) / traffic(int8), INT8_GOAL, "the first adapter goes in float32"),
        ratio("memory, all ranks' peaks", sum(full.peaks) / sum(ours.peaks), note="FedCLIP encodes its images"),
        ratio("memory, features cached", sum(full.peaks) / sum(int8.peaks), note="FedCLIP finds its features on disk"),
    ]


def at_pacs(name: str, full: Federation, ours: Federation, cached: float, goals: bool) -> list[Figure]:
    """Return the time of both with PACS's largest domain in each silo; parameters as for :func:`compare`."""
    most, encoding = max(PACS_SOURCES), full.forward_seconds()
    theirs = full.seconds_with(most, ROUNDS)
    before = float(ours.server["set_up"]) + encoding * (most - ours.images)
    own = before + ROUNDS * cached
    what = f"{ROUNDS} rounds, {most} images a silo"
    return [
        Figure(f"{name}: full, {what}", theirs, "s", note="EXTRAPOLATED by seconds an image and measured rounds"),
        Figure(
            f"{name}: FedCLIP, {what}",
            own,
            "s",
            note=f"EXTRAPOLATED: {1000 * encoding:.0f} ms to encode an image, as full's evaluation takes; "
            f"{1000 * cached:.0f} ms a round, measured with as many random features",
        ),
        Figure(f"{name}: time of {what}, full / FedCLIP", theirs / own, "x", at_least=TIME_GOAL if goals else None),
    ]


def _overrides(method: str, backbone: str, scale: Scale, work: Path) -> list[str]:
    rounds = scale.cost_full_rounds if method == "full" else scale.cost_rounds
    return [
        *METHODS[method][1],
        f"fedclip_args.backbone={backbone}",
        "fedclip_args.augmented_views=0",
        f"fedclip_args.silos=[{', '.join(SILOS)}]",
        f"fedclip_args.data_root={work.resolve() / 'silos'}",
        f"fedclip_args.feature_cache_dir={work.resolve() / 'features'}",
        "fedclip_args.keep_rounds=1",
        f"fedclip_args.round_timeout={_LIMIT_SECONDS}",
        f"train_args.client_num_in_total={len(SILOS)}",
        f"train_args.client_num_per_round={len(SILOS)}",
        f"train_args.comm_round={rounds}",
    ]
