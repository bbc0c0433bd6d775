"""One rank of the jobs behind ``costs``: a whole federation of the product, from image files to the last round."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.setup.mpi_jobs import report
from fedclip_plugin.federated.job import Job
from fedclip_plugin.federated.managers.round_recorder import Line
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.machine import resident_bytes
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

RECIPE = "own_images/vit_b32_fedclip_silo_folders"


class Ear:
    """Notes when a job gets where.

    Attributes
    ----------
    parameters
        How many are trained.
    precision
        What the images are encoded in.
    began, trained
        When loading and when training began, in seconds of ``time.perf_counter``.
    """

    def __init__(self) -> None:
        self.parameters, self.precision = 0, ""
        self.began = self.trained = 0.0

    def say(self, text: str) -> None:
        """Take no notice."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Note that ranks are up."""
        self.began = time.perf_counter()

    def train(self, task: Task, parameters: int) -> None:
        """Note that everything is loaded and encoded."""
        self.trained = time.perf_counter()
        self.parameters, self.precision = parameters, task.precision

    def line(self, line: Line) -> None:
        """Take no notice: the lines are in the run folder."""


def main() -> int:
    """Take part as one rank, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("overrides", nargs="+")
    options = parser.parse_args()
    folder, ear = RunFolder(options.results / "run"), Ear()
    recipe = load_recipe(find_recipe(RECIPE), options.overrides)
    Job(recipe, folder, resume=False, progress=False, observer=ear).run()
    total = time.perf_counter() - ear.began
    facts: dict[str, Any] = {"peak": resident_bytes(peak=True)}
    if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
        facts |= {
            "parameters": ear.parameters,
            "precision": ear.precision,
            "set_up": ear.trained - ear.began,
            "total": total,
            "lines": folder.lines(),
        }
    report(options.results, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
