"""One federation in this process: the same managers, trainers and aggregator, one rank after the other, without MPI."""

from __future__ import annotations

from functools import partial

import torch

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.federated.after_training import ask_here, asks, silo_answers
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.members import Members, last_part
from fedclip_plugin.federated.messages.local_transport import LocalNetwork
from fedclip_plugin.federated.observer import Observer, begin_training
from fedclip_plugin.federated.simulation.job import simulate
from fedclip_plugin.federated.startup.fedml_args import choose_device, start_fedml_here, start_simulation
from fedclip_plugin.federated.startup.preflight import open_run_here
from fedclip_plugin.federated.startup.preparation import Preparation, feature_source, prepare_here
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.federated.startup.silo_egress import asked_of
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.ranks import threads_per_rank
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.trust.egress import check_here


def run_job_here(
    recipe: Recipe,
    folder: RunFolder,
    resume: bool,
    progress: bool,
    observer: Observer,
    members: Members | None = None,
) -> None:
    """Train a federation until the last round, in this process.

    Images are encoded by all cores. Training takes as many threads as a rank of ``fedclip launch`` has on this
    machine, so that both end with the same bytes. Parameters as for :func:`~fedclip_plugin.federated.job.run_job`.

    Raises
    ------
    FedClipError
        When the recipe has ``secure_sums``, or something is wrong with images, backbone, run folder or memory, or a
        round has too few usable updates.
    """
    if recipe.fedclip_args.secure_sums:
        raise RecipeError(
            "fedclip_args.secure_sums = true: in one process there is nobody to hide an update from; set it to false, "
            "or start the recipe with fedclip launch"
        )
    members = members or Members.of(recipe)
    folder.claim()
    try:
        with log_to(folder.path / "logs", 0, only="fedclip_plugin"):
            check_here(partial(asked_of, recipe, folder.path.name))
            done = open_run_here(folder, recipe, resume)
            if done >= recipe.train_args.comm_round:
                observer.say(f"{folder.path} has all {done} rounds already: nothing to train")
                return
            with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
                if recipe.simulated:
                    simulate(start_simulation(recipe), recipe, folder, done, progress, observer)
                    return
                _train(recipe, folder, members, done, progress, observer)
    finally:
        folder.release()


def _train(recipe: Recipe, folder: RunFolder, members: Members, done: int, progress: bool, observer: Observer) -> None:
    ranks, records = len(members.present) + 1, folder.rounds() if done else []
    network = LocalNetwork(ranks)
    every = [start_fedml_here(recipe, network.comm(rank)) for rank in range(ranks)]
    device = choose_device(every[0])
    observer.begin(ranks - 1, done, device)
    if members.away:
        observer.say(members.told())
    source = feature_source(recipe, device)
    given = device, progress, observer.say, source, folder, members
    prepared = prepare_here([Preparation(recipe, args.comm, *given) for args in every])
    server, silos = None, []
    with torch_threads(threads_per_rank(members.total + 1)):
        for args in every:
            own = prepared[args.rank]
            dataset, model, trainer, aggregator = make_pair(args, device, recipe, own, folder)
            if aggregator is not None:
                server = aggregator, dataset[3]
                begin_training(own.task, model, folder, done, observer)
            if trainer is not None:
                trainer.own_rounds = last_part(records, members.index(args.rank)) if done else 0
                silos.append(silo_answers(trainer, dataset[5][members.index(args.rank)]))
            FedClipRunner(args, device, dataset, model, trainer, aggregator, observer.round).connect()
        del prepared, source
        if device.type == "cuda":
            torch.cuda.empty_cache()
        network.run()
        assert server is not None, "rank 0 is here too"
        if asks(server[0]):
            ask_here(silos, *server, observer.say)
