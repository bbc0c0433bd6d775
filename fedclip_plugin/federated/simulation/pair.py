"""FedML's parts of a simulation: data set, model, trainer and aggregator of a rank."""

from __future__ import annotations

from typing import Any

import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.preparation import SimulationInputs
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.methods import Adapter, create_adapter
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder

Parts = tuple[list[Any], Adapter, FedClipTrainer | None, FedClipAggregator | None]


def make_simulation_pair(
    args: Any, device: torch.device, recipe: Recipe, inputs: SimulationInputs, folder: RunFolder, group: WorkerGroup
) -> Parts:
    """Return FedML's parts for what a rank has prepared: the server's, a worker's, or both in one process."""
    settings, task, data = TrainingSettings.of(recipe), inputs.task, inputs.data
    if not group.one_host and (settings.codec != "none" or not settings.averaged):
        raise FedClipError(
            "what clients keep (fedclip_args.codec, federation: local) lies in one file that all workers share: run "
            "this simulation on one host"
        )
    seed, aggregator, trainer = recipe.common_args.random_seed, None, None
    model = create_adapter(task.method, inputs.frozen, seed, start=task.start)
    if group.rank == 0:
        args.device_type = "cpu"  # FedML's attacks and defences ask for it; updates are averaged on the CPU
        if inputs.class_scorer is not None:
            inputs.class_scorer.every.answering(model, 0)  # a method that cannot says so before it trains
        aggregator = FedClipAggregator(
            model, args, settings, task, data.names, folder, inputs.zero_shot, inputs.sizes, inputs.class_scorer
        )
    if group.rank or group.comm is None:
        own = create_adapter(task.method, inputs.frozen, seed, start=task.start) if aggregator else model
        trainer = FedClipTrainer(own.to(device), args, settings, task, "", folder)
    counts = dict(enumerate(data.train_sizes()))
    return [None, None, None, inputs.target, counts, data, data, len(task.classes)], model, trainer, aggregator
