"""One rank of the jobs behind ``scaling``: federations on random features, one after the other in one mpirun job."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.setup.mpi_jobs import report
from benchmarks.setup.synthetic import prepared
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.startup.fedml_args import start_fedml
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.machine import resident_bytes
from fedclip_plugin.methods import parameters_of
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

RECIPE = "own_images/vit_b32_fedclip_silo_folders"


def main() -> int:
    """Take part as one rank, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--silos", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("sizes", nargs="+", help="IMAGESxWIDTH: of each silo, of the features")
    options = parser.parse_args()
    silos = ", ".join(f"silo_{index}" for index in range(options.silos))
    words = [
        f"fedclip_args.silos=[{silos}]",
        f"train_args.client_num_in_total={options.silos}",
        f"train_args.client_num_per_round={options.silos}",
        f"train_args.comm_round={options.rounds}",
        "device_args.using_gpu=false",
    ]
    recipe = load_recipe(find_recipe(RECIPE), words)
    facts = {
        size: _federate(recipe, options.results / f"run_{size}", *map(int, size.split("x"))) for size in options.sizes
    }
    report(options.results, {"federations": facts, "peak": resident_bytes(peak=True)})
    return 0


def _federate(recipe: Recipe, run_dir: Path, images: int, width: int) -> dict[str, Any]:
    """Run one federation, and return what this rank knows of it."""
    folder, args = RunFolder(run_dir), start_fedml(recipe, run_dir)
    with log_to(run_dir / "logs", args.rank):
        if args.rank == 0:
            folder.prepare("# digest: benchmark\n", "benchmark", 0, resume=False)
        held = prepared(args.rank, [images] * args.worker_num, images, width)
        device = torch.device("cpu")
        dataset, model, trainer, aggregator = make_pair(args, device, recipe, held, folder)
        FedClipRunner(args, device, dataset, model, trainer, aggregator).run()
    count = sum(tensor.numel() for tensor in parameters_of(model).values())
    return {"parameters": count, "lines": folder.lines() if args.rank == 0 else []}


if __name__ == "__main__":
    sys.exit(main())
