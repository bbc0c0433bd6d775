"""How many clients a simulation trains a second, beside a plain loop and FedML's own; how it grows; what it holds.

Flower's simulation is beside it where ``FLOWER_PYTHON`` names an interpreter that has ``flwr[simulation]``
(:mod:`benchmarks.ranks.flower_clients`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fedclip_edge
from benchmarks.setup.mpi_jobs import rounds_of, run_job
from benchmarks.setup.plain_client import PlainClients
from benchmarks.setup.random_clients import Population
from benchmarks.setup.ratios import Figure
from benchmarks.setup.workload import Scale
from fedclip_edge.machine import cores
from fedclip_plugin.machine import torch_threads

TITLE = "clients: simulations over MPI, a worker a core; random features of 512, 100 classes, fedclip's gate"
_LIMIT_SECONDS = 1500.0
_MB = 1e6
_ROUNDS = 100
_TEST_EVERY = 10


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures."""
    figures = _throughput(scale, work)
    figures += _solved(scale, work)
    for clients, per_round, images in scale.simulated:
        figures += _growth(clients, per_round, images, scale, work)
    return figures


def _throughput(scale: Scale, work: Path) -> list[Figure]:
    """Return client-rounds a second of one job: ours with and without scoring, FedML's own, and a plain loop."""
    clients, per_round, images = 100, 10, scale.client_images
    made = Population(clients, images), work / "clients"
    name = made[0].make(made[1])
    loop = _plain_loop(*made, name, scale.client_rounds * per_round)
    own = _simulate(*made, name, per_round, scale.client_rounds, "fedclip")
    seldom = _simulate(*made, name, per_round, scale.client_rounds, "fedclip", _TEST_EVERY)
    fedml = _simulate(*made, name, per_round, scale.client_rounds, "fedml")
    flower = _flower(*made, name, per_round, scale.client_rounds)
    rounds = rounds_of(own[0])
    scoring = sum(record.seconds["evaluate"] for record in rounds)
    trained, whole = per_round * len(rounds), own[0]["seconds"]
    told, workers = f"{clients} clients of {images} images, {per_round} a round", cores()
    ours, theirs = trained / (whole - scoring), trained / fedml[0]["seconds"]
    beside = []
    if flower is not None:
        beside = [
            Figure(f"{workers} workers, Flower's simulation", flower, "clients/s", note="nothing is scored"),
            Figure("ours, scoring apart, against Flower's", ours / flower, "x"),
        ]
    return [
        *beside,
        Figure("one core, a plain loop", loop, "clients/s", note=told),
        Figure(f"{workers} workers, FedML's FedAvg_seq", theirs, "clients/s", note="nothing is scored"),
        Figure(f"{workers} workers, ours, scoring apart", ours, "clients/s"),
        Figure(f"{workers} workers, ours", trained / whole, "clients/s", note="every client scored in every round"),
        Figure("ours, scoring apart, against FedML's", ours / theirs, "x", at_least=5.0),
        Figure("ours, scoring apart, against cores x plain loop", ours / (workers * loop), "x"),
        Figure(f"{_ROUNDS} rounds", _ROUNDS * whole / len(rounds), "s", at_most=60.0, note="from those measured"),
        Figure(
            f"{_ROUNDS} rounds, clients scored every {_TEST_EVERY}th",
            _ROUNDS * seldom[0]["seconds"] / len(rounds_of(seldom[0])),
            "s",
            at_most=60.0,
            note="from those measured",
        ),
    ]


def _growth(clients: int, per_round: int, images: int, scale: Scale, work: Path) -> list[Figure]:
    made = Population(clients, images), work / "clients"
    ranks = _simulate(*made, made[0].make(made[1]), per_round, scale.client_growth_rounds, "fedclip")
    rounds = rounds_of(ranks[0])
    seconds = [record.seconds["round"] for record in rounds]
    name = f"{clients:,} clients, {per_round:,} a round"
    return [
        Figure(f"{name}: start", ranks[0]["prepared"], "s", note=f"{images} images a client; without FedML's"),
        Figure(f"{name}: client-rounds", per_round * len(rounds) / sum(seconds), "clients/s", len(rounds)),
        Figure(f"{name}: largest rank", max(rank["peak"] for rank in ranks) / _MB, "MB", at_most=4000.0),
    ]


def _solved(scale: Scale, work: Path) -> list[Figure]:
    """Return how long ridge's one round takes, from sums to the adapter, of few images a client and of many."""
    figures = []
    for images in (scale.client_images // 5, scale.client_images):
        made = Population(100, images), work / "clients"
        ranks = _simulate(*made, made[0].make(made[1]), 100, 1, "fedclip", method="ridge")
        (solved,) = rounds_of(ranks[0])
        seconds = solved.seconds["round"] - solved.seconds["evaluate"]
        name = f"ridge over 100 clients of {images} images, scoring apart"
        figures.append(Figure(name, seconds, "s", at_most=1.0))
    return figures


def _simulate(
    population: Population,
    features: Path,
    name: str,
    per_round: int,
    rounds: int,
    runner: str,
    test_every: int = 1,
    method: str = "fedclip",
) -> list[dict[str, Any]]:
    words = [str(features), name, "--runner", runner, "--rounds", str(rounds), "--test-every", str(test_every)]
    words += ["--method", method]
    words += ["--clients", str(population.clients), "--images", str(population.images), "--per-round", str(per_round)]
    ranks = cores() + 1
    module = "benchmarks.ranks.clients_rank"
    return run_job(module, words, features / f"job_{runner}_{test_every}", ranks=ranks, limit=_LIMIT_SECONDS).ranks


def _plain_loop(population: Population, features: Path, name: str, clients: int) -> float:
    """Return client-rounds a second of a loop in torch's own words."""
    own = PlainClients(population, features, name)
    with torch_threads(1):
        began = time.perf_counter()
        for number in range(clients):
            own.train(own.adapter(), number % population.clients)
        return clients / (time.perf_counter() - began)


def _flower(population: Population, features: Path, name: str, per_round: int, rounds: int) -> float | None:
    """Return client-rounds a second of Flower's simulation; None where ``FLOWER_PYTHON`` names no interpreter."""
    python = os.environ.get("FLOWER_PYTHON")
    if not python:
        return None
    results = features / "flower.json"
    asked: dict[str, Any] = {
        "clients": population.clients,
        "images": population.images,
        "per_round": per_round,
        "rounds": rounds,
    }
    asked |= {"features": str(features), "name": name, "results": str(results), "workers": cores()}
    paths = [str(Path.cwd()), str(Path(fedclip_edge.__file__).parents[1]), *sys.path]
    given = {"BENCHMARK_OPTIONS": json.dumps(asked), "BENCHMARK_PATHS": json.dumps(paths)}
    environment = os.environ | given | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "benchmarks.ranks.flower_clients"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS, env=environment)
    if done.returncode or not results.is_file():
        raise RuntimeError(f"Flower's job ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return float(per_round * rounds / json.loads(results.read_text(encoding="utf-8"))["seconds"])
