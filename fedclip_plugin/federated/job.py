"""One federation, from a checked recipe to the final table; every rank of the mpirun job runs this."""

from __future__ import annotations

from typing import Any

import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.observer import Observer, begin_training
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.federated.simulation.job import simulate
from fedclip_plugin.federated.startup.fedml_args import choose_device, start_fedml, start_simulation
from fedclip_plugin.federated.startup.preflight import open_run, open_run_here
from fedclip_plugin.federated.startup.preparation import Preparation
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.federated.startup.silo_egress import job_egress, require_rest
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder


def run_job(
    recipe: Recipe,
    folder: RunFolder,
    resume: bool,
    progress: bool,
    observer: Observer,
    histories: Histories | None = None,
    members: Members | None = None,
) -> tuple[int, ...]:
    """Train a federation until the last round; MPI stays open, so that another job may follow.

    Return, on the server, the ranks of silos that were not there at the end (``round_grace``).

    Parameters
    ----------
    resume
        Continue after the last complete round.
    progress
        Show bars while rendering and encoding.
    observer
        Hears how it goes; only the server's is told.
    histories
        Where every round's answers are kept; None keeps none.
    members
        The silos that take part; without it all.

    Raises
    ------
    FedClipError
        On every rank, before training, when something is wrong with recipe, images, backbone or run folder, or
        when a host has too little memory.
    """
    members = members or Members.of(recipe)
    args = start_simulation(recipe) if recipe.simulated else start_fedml(recipe, len(members.present))
    number = args.rank if recipe.simulated else members.number(args.rank)
    try:
        with (
            log_to(folder.path / "logs", number),
            job_egress(args.comm, recipe, folder.path, args.rank, members) as fault,
        ):
            return _train(args, recipe, folder, resume, progress, observer, histories, fault, members)
    except FedClipError:
        raise
    except Exception as error:
        stop_job(args.comm, f"rank {args.rank}, outside of a round", error)
    finally:
        folder.release()


def _train(
    args: Any,
    recipe: Recipe,
    folder: RunFolder,
    resume: bool,
    progress: bool,
    observer: Observer,
    histories: Histories | None,
    fault: FedClipError | None,
    members: Members,
) -> tuple[int, ...]:
    def _tell(text: str) -> None:
        if args.rank == 0:
            observer.say(text)

    here = args.comm is None
    if here:
        done = own_rounds = open_run_here(folder, recipe, resume)
    else:
        opened = open_run(args.comm, folder, recipe, resume, fault, members)
        done, own_rounds = opened.rounds, opened.own_rounds
    if done >= args.comm_round:
        _tell(f"{folder.path} has all {done} rounds already: nothing to train")
        return ()
    if not here:
        require_rest(args.comm, members.who(recipe, args.rank), done, own_rounds)
    if recipe.simulated:
        simulate(args, recipe, folder, done, progress, observer, histories)
        return ()
    device = choose_device(args)
    if args.rank == 0:
        observer.begin(args.worker_num, done, device)
    if members.away:
        _tell(members.told())
    prepared = Preparation(recipe, args.comm, device, progress, _tell, folder=folder, members=members).run()
    if args.rank == 0:
        folder.note_policies(done, prepared.policies)
    task = prepared.task
    dataset, model, trainer, aggregator = make_pair(args, device, recipe, prepared, folder)
    if trainer is not None:
        trainer.own_rounds = own_rounds
    del prepared
    if device.type == "cuda":
        torch.cuda.empty_cache()  # ranks may share the GPU, and most methods are done with the backbone
    if args.rank == 0:
        begin_training(task, model, folder, done, observer)
    runner = FedClipRunner(args, device, dataset, model, trainer, aggregator, observer.round, histories, _tell)
    runner.run()
    return runner.missing
