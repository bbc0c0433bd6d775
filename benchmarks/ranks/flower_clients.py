"""The job behind ``clients`` that is Flower's simulation; it runs in an environment of its own.

``FLOWER_PYTHON`` names that environment's interpreter; ``python -m venv flower`` and ``flower/bin/pip install
'flwr[simulation]'`` make one. What it lacks (torch, and this project) it takes from the benchmark's environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path += [path for path in json.loads(os.environ["BENCHMARK_PATHS"]) if path not in sys.path]  # its workers' too

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.setup.plain_client import PlainClients
from benchmarks.setup.random_clients import Population

_OPTIONS = "BENCHMARK_OPTIONS"

client_app, server_app = ClientApp(), ServerApp()


def options() -> dict[str, Any]:
    """Return what the benchmark asks for: this process has it, and so have Flower's workers."""
    found: dict[str, Any] = json.loads(os.environ[_OPTIONS])
    return found


@lru_cache(maxsize=1)
def clients() -> PlainClients:
    """Return the clients, once a worker."""
    asked = options()
    torch.set_num_threads(1)
    return PlainClients(Population(asked["clients"], asked["images"]), Path(asked["features"]), asked["name"])


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client from the adapter in the message."""
    own, number = clients(), int(context.node_config["partition-id"])
    adapter = own.adapter()
    adapter.load_state_dict(message.content["arrays"].to_torch_state_dict())
    own.train(adapter, number)
    metrics = MetricRecord({"num-examples": own.images(number)})
    return Message(RecordDict({"arrays": ArrayRecord(adapter.state_dict()), "metrics": metrics}), reply_to=message)


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Train all rounds, and write how long they took without the start of Flower's workers."""
    asked = options()
    share = asked["per_round"] / asked["clients"]
    strategy = FedAvg(fraction_train=share, fraction_evaluate=0.0, min_available_nodes=asked["clients"])
    held = ArrayRecord(clients().adapter().state_dict())
    strategy.start(grid=grid, initial_arrays=held, num_rounds=2)  # starts and warms the workers
    began = time.perf_counter()
    strategy.start(grid=grid, initial_arrays=held, num_rounds=asked["rounds"])
    Path(asked["results"]).write_text(json.dumps({"seconds": time.perf_counter() - began}), encoding="utf-8")


def main() -> int:
    """Run the simulation, a worker a core."""
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": options()["workers"]}}
    run_simulation(server_app, client_app, options()["clients"], backend_config=backend)
    return 0


if __name__ == "__main__":
    from benchmarks.ranks import flower_clients  # by its name, so that workers import it too

    sys.exit(flower_clients.main())
