"""One rank of the job behind ``rounds`` and ``memory``: a real federation on random features, timed from inside.

``FEDCLIP_BENCH_PROFILE=1`` also writes a profile of every rank's main thread into the results folder.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import io
import json
import os
import pickle
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fedml import FedMLRunner
from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.message_define import MyMessage

from benchmarks.setup.mpi_jobs import report
from benchmarks.setup.synthetic import prepared
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.messages.message_pickle import encode
from fedclip_plugin.federated.startup.fedml_args import start_fedml
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.machine import resident_bytes
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

RECIPE = "miniature/clip_tiny_fedclip"
PROFILE = "FEDCLIP_BENCH_PROFILE"
_SHOWN_FUNCTIONS = 40


class Clock:
    """Notes when and how long functions run, and how much memory the process holds after each.

    Attributes
    ----------
    spans
        Name to begin and end of each call, in seconds of ``time.perf_counter``.
    memory
        Resident bytes after each call of a function that was wrapped with ``weigh``.
    """

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.memory: list[int] = []

    def wrap(self, owner: Any, method: str, weigh: bool = False) -> None:
        """Time every call of a method of one object."""
        inner: Callable[..., Any] = getattr(owner, method)
        spans = self.spans.setdefault(method, [])

        @functools.wraps(inner)
        def timed(*args: Any, **rest: Any) -> Any:
            """Call the method and note when it began and ended."""
            began = time.perf_counter()
            result = inner(*args, **rest)
            spans.append((began, time.perf_counter()))
            if weigh:
                self.memory.append(resident_bytes())
            return result

        setattr(owner, method, timed)


def main() -> int:
    """Take part as one rank, and report."""
    options = _parser().parse_args()
    after_imports = resident_bytes()
    run_dir = options.results / "run"
    recipe = load_recipe(find_recipe(RECIPE), [f"train_args.comm_round={options.rounds}"])
    args = start_fedml(recipe, run_dir)
    with log_to(run_dir / "logs", args.rank):
        _take_part(options, args, recipe, run_dir, after_imports)
    return 0


def _take_part(options: argparse.Namespace, args: Any, recipe: Recipe, run_dir: Path, after_imports: int) -> None:
    folder = RunFolder(run_dir)
    if args.rank == 0:
        folder.prepare("# digest: benchmark\n", "benchmark", 0, resume=False)
    held = prepared(args.rank, options.sources, options.target)
    device = torch.device("cpu")
    dataset, model, trainer, aggregator = make_pair(args, device, recipe, held, folder)
    clock = _watch(trainer, aggregator)
    facts = {"bytes": _message_sizes(model), "after_imports": after_imports}
    facts["before_rounds"] = resident_bytes()

    def federate() -> None:
        """Run the rounds under the runner that was asked for."""
        if options.runner == "fedclip":
            FedClipRunner(args, device, dataset, model, trainer, aggregator).run()
        else:
            FedMLRunner(args, device, dataset, model, trainer, aggregator)  # its constructor trains

    _profiled(federate, options.results / f"profile_rank_{args.rank}.txt")
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()] if args.rank == 0 else []
    report(
        options.results,
        facts | {"spans": clock.spans, "lines": lines, "memory": clock.memory, "peak": resident_bytes(peak=True)},
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--runner", choices=("fedclip", "fedml"), required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sources", type=int, nargs=3, required=True)
    parser.add_argument("--target", type=int, required=True)
    return parser


def _watch(trainer: Any, aggregator: Any) -> Clock:
    clock = Clock()
    if trainer is not None:
        clock.wrap(trainer, "train", weigh=True)
    if aggregator is not None:
        clock.wrap(aggregator, "on_before_aggregation")
        clock.wrap(aggregator, "on_after_aggregation")
        clock.wrap(aggregator, "test", weigh=True)
    return clock


def _message_sizes(model: torch.nn.Module) -> dict[str, int]:
    """Return bytes of the adapter itself, and of a message with it as FedML pickles it and as ours does."""
    message = Message(MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER, 1, 0)
    message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, model.state_dict())
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    plain = len(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))
    return {"tensors": tensors, "fedml": plain, "fedclip": len(encode(message))}


def _profiled(act: Callable[[], None], file: Path) -> None:
    if not os.environ.get(PROFILE):
        act()
        return
    profile = cProfile.Profile()
    profile.runcall(act)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_SHOWN_FUNCTIONS)
    pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(_SHOWN_FUNCTIONS)
    file.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
