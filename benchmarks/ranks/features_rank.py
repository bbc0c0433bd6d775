"""One rank of the jobs behind ``rounds``, ``memory`` and ``scaling``: federations on random features, one by one."""

from __future__ import annotations

import argparse
import functools
import pickle
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from fedml import FedMLRunner
from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.message_define import MyMessage

from benchmarks.setup.mpi_jobs import report
from benchmarks.setup.synthetic import Work, prepared
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.messages.added_fields import REPORT, ROUND
from fedclip_plugin.federated.messages.fedml_messages import encode
from fedclip_plugin.federated.startup.fedml_args import start_fedml
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.machine import resident_bytes
from fedclip_plugin.methods import parameters_of
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

RECIPE = "own_images/vit_b32_sigmoid_gate_silo_folders"


class Clock:
    """Notes when functions begin and end (``time.perf_counter``), and resident bytes after those to weigh."""

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
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--runner", choices=("fedclip", "fedml"), default="fedclip")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--masked", action="store_true", help="run each federation once more, with secure sums")
    parser.add_argument("work", nargs="+", type=Work.parse, help="of a federation; all have as many silos")
    options = parser.parse_args()
    count = len(options.work[0].sources)
    words = [
        f"fedclip_args.silos=[{', '.join(f'silo_{index}' for index in range(count))}]",
        f"train_args.client_num_in_total={count}",
        f"train_args.client_num_per_round={count}",
        f"train_args.comm_round={options.rounds}",
        "device_args.using_gpu=false",
        "fedclip_args.method=fedclip",
        "fedclip_args.augmented_views=0",
        "fedclip_args.calibrate=false",
    ]
    plain = load_recipe(find_recipe(RECIPE), words)
    recipes = [plain]
    if options.masked:
        recipes.append(load_recipe(find_recipe(RECIPE), [*words, "fedclip_args.secure_sums=true"]))
    facts = [
        _federate(recipe, options.results / f"run_{index}", work, options.runner)
        for index, (work, recipe) in enumerate(product(options.work, recipes))
    ]
    report(options.results, {"federations": facts, "peak": resident_bytes(peak=True)})
    return 0


def _federate(recipe: Recipe, run_dir: Path, work: Work, runner: str) -> dict[str, Any]:
    """Run one federation, and return what this rank knows of it."""
    folder, args = RunFolder(run_dir), start_fedml(recipe)
    with log_to(run_dir / "logs", args.rank):
        if args.rank == 0:
            folder.prepare("# digest: benchmark\n", "benchmark", 0, resume=False)
        device = torch.device("cpu")
        dataset, model, trainer, aggregator = make_pair(args, device, recipe, prepared(args.rank, work), folder)
        clock, sizes = Clock(), _message_sizes(model)
        if trainer is not None:
            clock.wrap(trainer, "train", weigh=True)
        if aggregator is not None:
            clock.wrap(aggregator, "on_before_aggregation")
            clock.wrap(aggregator, "on_after_aggregation")
            clock.wrap(aggregator, "test", weigh=True)
        if runner == "fedclip":
            FedClipRunner(args, device, dataset, model, trainer, aggregator).run()
        else:
            FedMLRunner(args, device, dataset, model, trainer, aggregator)  # its constructor trains
    return {
        "parameters": sum(tensor.numel() for tensor in parameters_of(model).values()),
        "bytes": sizes,
        "spans": clock.spans,
        "memory": clock.memory,
        "rounds": [record.to_json() for record in folder.rounds()] if args.rank == 0 else [],
    }


def _message_sizes(model: torch.nn.Module) -> dict[str, int]:
    """Return bytes of the adapter itself, and of a message with it as FedML pickles it and as ours does."""
    message = Message(MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER, 1, 0)
    message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, model.state_dict())
    message.add_params(MyMessage.MSG_ARG_KEY_NUM_SAMPLES, 1)
    message.add_params(ROUND, 0)
    message.add_params(REPORT, None)
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    plain = len(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))
    return {"tensors": tensors, "fedml": plain, "fedclip": len(encode(message))}


if __name__ == "__main__":
    sys.exit(main())
