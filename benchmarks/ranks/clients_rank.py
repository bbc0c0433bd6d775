"""One rank of the jobs behind ``clients``: a simulation on random features, ours or FedML's own."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from fedml import FedMLRunner

from benchmarks.setup.mpi_jobs import report
from benchmarks.setup.random_clients import Population
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.simulation.pair import make_simulation_pair
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.fedml_args import start_simulation
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.machine import resident_bytes, torch_threads
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.recipe.rules.one_round import rounds_of
from fedclip_plugin.runs import RunFolder

RECIPE = "own_images/vit_b32_sigmoid_gate_iid"


def main() -> int:
    """Take part as one rank, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("name")
    parser.add_argument("--runner", choices=("fedclip", "fedml"), default="fedclip")
    parser.add_argument("--method", default="fedclip")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--per-round", type=int, required=True)
    parser.add_argument("--images", type=int, required=True, help="of a client")
    parser.add_argument("--test-every", type=int, default=1, help="rounds")
    options = parser.parse_args()
    words = [
        "common_args.training_type=simulation",
        f"train_args.client_num_in_total={options.clients}",
        f"train_args.client_num_per_round={options.per_round}",
        f"train_args.comm_round={options.rounds}",
        f"validation_args.frequency_of_the_test={options.test_every}",
        "device_args.using_gpu=false",
        f"fedclip_args.method={options.method}",
        f"fedclip_args.weighting={'samples' if rounds_of(options.method) is None else 'uniform'}",
        "fedclip_args.augmented_views=0",
        "fedclip_args.calibrate=false",
    ]
    recipe = load_recipe(find_recipe(RECIPE), words)
    folder, args, device = RunFolder(options.results / "run"), start_simulation(recipe), torch.device("cpu")
    began = time.perf_counter()
    with log_to(folder.path / "logs", args.rank), torch_threads(1):
        if args.rank == 0:
            folder.prepare("# digest: benchmark\n", "benchmark", 0, resume=False)
        inputs = Population(options.clients, options.images).inputs(options.features, options.name, options.method)
        group = WorkerGroup.of(args.comm, recipe.fedclip_args.start_timeout)
        parts = make_simulation_pair(args, device, recipe, inputs, folder, group)
        prepared, seconds = time.perf_counter() - began, time.perf_counter()
        if options.runner == "fedclip":
            FedClipRunner(args, device, *parts).run()
        else:
            args.federated_optimizer, args.worker_num = "FedAvg_seq", args.comm.Get_size()  # FedML counts the server
            FedMLRunner(args, device, *parts)  # its constructor trains
        seconds = time.perf_counter() - seconds
    facts: dict[str, Any] = {"prepared": prepared, "seconds": seconds, "peak": resident_bytes(peak=True)}
    facts["rounds"] = [record.to_json() for record in folder.rounds()] if args.rank == 0 else []
    report(options.results, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
