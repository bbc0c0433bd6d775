"""One rank of the jobs behind ``startup``: the miniature recipe with time stamps, or a bare ``import fedml``."""

from __future__ import annotations

import time

STARTED = time.monotonic()

import argparse  # noqa: E402 - the clock comes first
import sys  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from benchmarks.setup.mpi_jobs import report  # noqa: E402
from fedclip_plugin.machine import resident_bytes  # noqa: E402

if TYPE_CHECKING:
    import torch

RECIPE = "miniature/clip_tiny_fedclip"
ROUNDS = 2


class Stamps:
    """An observer of a job that notes the time at every step.

    Attributes
    ----------
    steps
        Name of a step to when it was over, in seconds of ``time.monotonic``, which all processes of a machine share.
    """

    def __init__(self) -> None:
        self.steps: dict[str, float] = {"python": STARTED}

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

    def train(self, task: Any, parameters: int) -> None:
        """Note that all features are there."""
        self.stamp("features")

    def line(self, line: dict[str, Any]) -> None:
        """Note the first round: the line of round 0 is written when all silos have trained on the first adapter."""
        self.stamp("first round")


def main() -> int:
    """Take part as one rank, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--import-only", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    stamps = Stamps()
    import torch  # noqa: F401

    stamps.stamp("import torch")
    import fedml  # noqa: F401

    stamps.stamp("import fedml")
    if not options.import_only:
        _federate(options.results / "run", stamps)
    loaded = "transformers" in sys.modules
    report(options.results, {"steps": stamps.steps, "transformers": loaded, "peak": resident_bytes(peak=True)})
    return 0


def _federate(run_dir: Path, stamps: Stamps) -> None:
    from fedclip_plugin.federated.job import Job
    from fedclip_plugin.recipe import find_recipe, load_recipe
    from fedclip_plugin.runs import RunFolder

    recipe = load_recipe(find_recipe(RECIPE), [f"train_args.comm_round={ROUNDS}"])
    stamps.stamp("import fedclip_plugin")
    Job(recipe, RunFolder(run_dir), resume=False, progress=False, observer=stamps).run()


if __name__ == "__main__":
    sys.exit(main())
