"""FedCLIP against full fine-tuning under FedAvg, each a whole federation: seconds, bytes and memory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks.costs_rank import RECIPE
from benchmarks.federation import Federation
from benchmarks.figures import Figure, of_samples
from benchmarks.jobs import run_job
from benchmarks.random_clip import random_clip
from benchmarks.scale import PACS_SOURCES, Scale
from benchmarks.silo_folders import write_silos
from fedclip_plugin.backbone import BUILT_IN
from fedclip_plugin.federated.footprint import BASE_SHARED, footprint
from fedclip_plugin.recipe import find_recipe, load_recipe

TITLE = "costs: FedCLIP against full fine-tuning under FedAvg; two silos, from image files to the last round"
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


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: clip-tiny first, then a random-weight ViT-B/32 with the goals."""
    large = random_clip(work, scale.small_backbone)
    name = "small CLIP" if scale.small_backbone else "ViT-B/32"
    tiny = federate(BUILT_IN, scale.cost_tiny_images, scale, work / "costs_tiny")
    figures = compare("clip-tiny", tiny, goals=False)
    found = federate(str(large.resolve()), scale.cost_images, scale, work / "costs")
    figures += compare(name, found, goals=not scale.small_backbone)
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

    Parameters
    ----------
    backbone
        As in a recipe.
    images
        Of each silo.
    scale
        Rounds of each method.
    work
        Folder for images, features and run folders; the run folders are removed, full adapters are large.

    Raises
    ------
    RuntimeError
        When a federation fails, such as one that does not fit into this host's memory.
    """
    write_silos(work / "silos", SILOS, images)
    shutil.rmtree(work / "features", ignore_errors=True)
    found = {}
    for method in METHODS:
        results = work / method
        job = run_job(
            "benchmarks.costs_rank",
            _overrides(method, backbone, scale, work),
            results,
            ranks=len(SILOS) + 1,
            limit=_LIMIT_SECONDS,
        )
        shutil.rmtree(results / "run")
        found[method] = Federation(job.ranks, images)
    return found


def compare(name: str, found: Mapping[str, Federation], goals: bool) -> list[Figure]:
    """Return what each method costs, and the ratios.

    Parameters
    ----------
    name
        The backbone.
    found
        The federation of each method.
    goals
        Whether the ratios have goals.
    """
    figures = [figure for method, (title, _) in METHODS.items() for figure in costs(f"{name}: {title}", found[method])]
    return figures + ratios(name, found["full"], found["fedclip"], found["int8"], goals)


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
        return one.bytes_a_silo("up") + one.bytes_a_silo("down")

    def ratio(what: str, value: float, goal: float | None = None, note: str = "") -> Figure:
        return Figure(f"{name}: {what}, full / FedCLIP", value, "x", at_least=goal if goals else None, note=note)

    count, most = len(full.rounds), max(PACS_SOURCES)
    encoding = full.forward_seconds()
    at_pacs = [full.seconds_with(most, ROUNDS, 0.0), ours.seconds_with(most, ROUNDS, encoding)]
    return [
        ratio(
            f"time of {ROUNDS} rounds",
            full.seconds(ROUNDS) / ours.seconds(ROUNDS),
            TIME_GOAL,
            f"full EXTRAPOLATED from {count} rounds; {full.images} images a silo",
        ),
        ratio(
            f"time of {ROUNDS} rounds, {most} images a silo",
            at_pacs[0] / at_pacs[1],
            TIME_GOAL,
            f"both EXTRAPOLATED by seconds an image, {at_pacs[0]:,.0f} s and {at_pacs[1]:,.0f} s; encoding as full's "
            f"evaluation, {1000 * encoding:.0f} ms an image",
        ),
        ratio("time of a round", median(full.phase("round")) / median(ours.phase("round"))),
        ratio("bytes a round", traffic(full) / traffic(ours), BYTES_GOAL),
        ratio("bytes a round, int8", traffic(full) / traffic(int8), INT8_GOAL, "the first adapter goes in float32"),
        ratio("memory, all ranks' peaks", sum(full.peaks) / sum(ours.peaks), note="FedCLIP encodes its images"),
        ratio("memory, features cached", sum(full.peaks) / sum(int8.peaks), note="FedCLIP finds its features on disk"),
    ]


def _overrides(method: str, backbone: str, scale: Scale, work: Path) -> list[str]:
    rounds = scale.cost_full_rounds if method == "full" else scale.cost_rounds
    return [
        *METHODS[method][1],
        f"fedclip_args.backbone={backbone}",
        f"fedclip_args.silos=[{', '.join(SILOS)}]",
        f"fedclip_args.data_root={work.resolve() / 'silos'}",
        f"fedclip_args.feature_cache_dir={work.resolve() / 'features'}",
        "fedclip_args.keep_rounds=1",
        f"fedclip_args.round_timeout={_LIMIT_SECONDS}",
        f"train_args.client_num_in_total={len(SILOS)}",
        f"train_args.client_num_per_round={len(SILOS)}",
        f"train_args.comm_round={rounds}",
    ]
