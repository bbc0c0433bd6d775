"""One rank of the jobs behind ``startup`` and ``costs``: a whole federation, or imports alone, with time stamps."""

from __future__ import annotations

import time

STARTED = time.monotonic()

import argparse  # noqa: E402 - the clock comes first
import gc  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from benchmarks.setup.mpi_jobs import report  # noqa: E402
from fedclip_plugin.cli.main import SELDOM  # noqa: E402
from fedclip_plugin.federated.fedml_imports import import_fedml  # noqa: E402
from fedclip_plugin.machine import resident_bytes  # noqa: E402

if TYPE_CHECKING:
    import torch

    from fedclip_plugin.federated.roles.task import Task
    from fedclip_plugin.runs import RoundRecord


class Stamps:
    """An observer of a job that notes when every step was over (``time.monotonic``, which all processes share)."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {"python": STARTED}
        self.parameters, self.precision = 0, ""

    def stamp(self, step: str) -> None:
        """Note that ``step`` is over."""
        self.steps.setdefault(step, time.monotonic())

    def say(self, text: str) -> None:
        """Note the end of listing, which is when the server says how many images there are."""
        if text.startswith("images:"):
            self.stamp("listing")

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Note the end of MPI's and FedML's initialisation."""
        self.stamp("mpi")

    def train(self, task: Task, parameters: int) -> None:
        """Note that all features are there."""
        self.stamp("features")
        self.parameters, self.precision = parameters, task.precision

    def round(self, record: RoundRecord) -> None:
        """Note the first round: the line of round 0 is written when all silos have trained on the first adapter."""
        self.stamp("first round")


def main() -> int:
    """Take part as one rank, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("recipe", nargs="?", help="without one, torch and fedml are imported and nothing more")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    stamps = Stamps()
    if options.recipe:
        gc.set_threshold(SELDOM)  # as the command does
    import torch  # noqa: F401

    stamps.stamp("import torch")
    if options.recipe:
        import_fedml()
    else:
        import fedml  # noqa: F401

    stamps.stamp("import fedml")
    facts = _federate(options, stamps) if options.recipe else {}
    loaded = "transformers" in sys.modules
    facts |= {"steps": stamps.steps, "transformers": loaded, "peak": resident_bytes(peak=True)}
    facts["processor"] = time.process_time()
    report(options.results, facts)
    return 0


def _federate(options: argparse.Namespace, stamps: Stamps) -> dict[str, Any]:
    from fedclip_plugin.federated.job import run_job
    from fedclip_plugin.recipe import find_recipe, load_recipe
    from fedclip_plugin.runs import RunFolder

    recipe, folder = load_recipe(find_recipe(options.recipe), options.overrides), RunFolder(options.results / "run")
    stamps.stamp("import fedclip_plugin")
    run_job(recipe, folder, resume=False, progress=False, observer=stamps)
    stamps.stamp("end")
    if "mpi" not in stamps.steps:  # a silo's rank: only the server's hears of the job
        return {}
    began, trained, end = (stamps.steps[step] for step in ("mpi", "features", "end"))
    return {
        "parameters": stamps.parameters,
        "precision": stamps.precision,
        "set_up": trained - began,
        "total": end - began,
        "rounds": [record.to_json() for record in folder.rounds()],
    }


if __name__ == "__main__":
    sys.exit(main())
