"""One simulation, from a checked recipe to the final table, on every rank of an mpirun job or in this process."""

from __future__ import annotations

from typing import Any

import torch

from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.observer import Observer, begin_training
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.federated.simulation.pair import make_simulation_pair
from fedclip_plugin.federated.simulation.preparation import SimulationPreparation
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.fedml_args import choose_device
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder


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
        dataset, model, trainer, aggregator = make_simulation_pair(args, device, recipe, inputs, folder, group)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if serves:
            begin_training(inputs.task, model, folder, done, observer)
        runner = FedClipRunner(args, device, dataset, model, trainer, aggregator, observer.round, histories, say)
        del inputs
        runner.run()


def _quiet(text: str) -> None:
    """Say nothing: the server does."""
