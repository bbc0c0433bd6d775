"""One simulation, from a checked recipe to the final table, on every rank of an mpirun job or in this process."""

from __future__ import annotations

from typing import Any

import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.observer import Observer, begin_training
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.preparation import SimulationInputs, SimulationPreparation
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.fedml_args import choose_device
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import Adapter, create_adapter
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder

Parts = tuple[list[Any], Adapter, FedClipTrainer | None, FedClipAggregator | None]


def simulate(
    args: Any,
    recipe: Recipe,
    folder: RunFolder,
    done: int,
    progress: bool,
    observer: Observer,
    histories: Histories | None = None,
) -> None:
    """Train the clients of a simulation until the last round; every rank calls this, after the run was opened.

    One thread a rank trains, so that equal bytes come out whatever the number of workers; images are encoded by all
    cores.

    Parameters
    ----------
    args
        FedML's arguments of this rank.
    done
        Rounds that are complete already.
    progress
        Show a bar while encoding.
    observer
        Hears how it goes; only the server's is told.
    histories
        Where the server keeps every round's answers; None keeps none.

    Raises
    ------
    FedClipError
        When something is wrong with images, backbone or run folder, or a round has too few usable updates.
    """
    group = WorkerGroup.of(args.comm, recipe.fedclip_args.start_timeout)
    device, serves = choose_device(args), group.rank == 0
    if serves:
        observer.begin(group.workers, done, device)
    with torch_threads(1):
        say = observer.say if serves else _quiet
        inputs = SimulationPreparation(recipe, group, device, progress, say).run()
        dataset, model, trainer, aggregator = _make_pair(args, device, recipe, inputs, folder, group)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if serves:
            begin_training(inputs.task, model, folder, done, observer)
        runner = FedClipRunner(args, device, dataset, model, trainer, aggregator, observer.round, histories)
        del inputs
        runner.run()


def _make_pair(
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
    model = create_adapter(task.method, inputs.frozen, seed)
    if group.rank == 0:
        args.device_type = "cpu"  # FedML's attacks and defences ask for it; updates are averaged on the CPU
        aggregator = FedClipAggregator(model, args, settings, task, data.names, folder, inputs.zero_shot, inputs.sizes)
    if group.rank or group.comm is None:
        own = create_adapter(task.method, inputs.frozen, seed) if aggregator else model
        trainer = FedClipTrainer(own.to(device), args, settings, task, "", folder)
    counts = dict(enumerate(data.train_sizes()))
    return [None, None, None, inputs.target, counts, data, data, len(task.classes)], model, trainer, aggregator


def _quiet(text: str) -> None:
    """Say nothing: the server does."""
