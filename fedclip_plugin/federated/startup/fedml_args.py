"""FedML's start-up, without its network calls, its seeding of global generators and its capture of stdout."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

import torch

from fedclip_plugin.federated.local_comm import LocalComm
from fedclip_plugin.recipe import Recipe

logger = logging.getLogger(__name__)

_THIS_PROCESS = "sp"
"""FedML's backend without messages between processes; anything but MPI, which FedML would initialise."""

_LOCAL_RANK_KEYS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK")


def start_fedml(recipe: Recipe, silos: int | None = None) -> Any:
    """Return FedML's arguments for this rank, with MPI initialised; ``silos`` are those that take part, usually all.

    ``fedml.init`` asks its maker's server for a configuration, without a time limit, whatever the recipe says; there is
    no setting against it. These are the steps of ``fedml.init`` for cross-silo MPI (fedml 0.9.6) without that one, and
    without the global seeding that would make every rank draw the same numbers.

    Raises
    ------
    AssertionError
        From FedML, when the number of MPI processes is not the number of silos plus one.
    """
    return _arguments(recipe, None, silos or recipe.train_args.client_num_in_total)


def start_fedml_here(recipe: Recipe, comm: LocalComm) -> Any:
    """Return FedML's arguments for a rank of this process; the same steps, without MPI."""
    return _arguments(recipe, comm, comm.size - 1)


def start_simulation(recipe: Recipe) -> Any:
    """Return FedML's arguments for this rank of a simulation, with MPI initialised; in one process without MPI.

    ``args.comm`` is None there, and the process is the server and the only worker.
    """
    args = _bare_arguments(recipe)
    args.comm, args.rank, args.process_id, args.role, args.worker_num = None, 0, 0, "server", 1
    if args.backend != _THIS_PROCESS:
        import fedml

        args = fedml._init_simulation_mpi(args)
        args.worker_num -= 1  # FedML counts the server
    return args


def _bare_arguments(recipe: Recipe) -> Any:
    """Return FedML's arguments before any backend is started."""
    import fedml
    from fedml.arguments import Arguments
    from fedml.core.dp.fedml_differential_privacy import FedMLDifferentialPrivacy

    args = Arguments(
        argparse.Namespace(yaml_config_file="", run_id="0", rank=0, role="client", using_mlops=False),
        training_type=recipe.common_args.training_type,
        comm_backend=recipe.comm_args.backend,
    )
    for key, value in recipe.flat().items():
        setattr(args, key, value)
    fedml._global_training_type, fedml._global_comm_backend = args.training_type, args.backend
    FedMLDifferentialPrivacy.get_instance().is_enabled = False  # FedML never switches it off for the next federation
    fedml.mlops.pre_setup(args)  # without it the first mlops.event() would call fedml.init, and with it the network
    return args


def _arguments(recipe: Recipe, comm: LocalComm | None, silos: int) -> Any:
    import fedml

    args = _bare_arguments(recipe)
    # To FedML the silos that are there are all, and take part in every round; AveragingDriver samples who trains.
    args.client_num_per_round = args.worker_num = args.client_num_in_total = silos
    if comm is not None:
        args.backend, args.rank, args.role = _THIS_PROCESS, comm.rank, "client" if comm.rank else "server"
        fedml._global_comm_backend = args.backend
    fedml._init_cross_silo_horizontal(args)
    if comm is not None:
        args.comm = comm
    if comm is None or comm.rank == 0:  # one process has one run of wandb, the server's
        fedml._manage_profiling_args(args)
    args.client_id_list = str([args.rank] if args.rank else list(range(1, args.worker_num + 1)))
    return args


def choose_device(args: Any) -> torch.device:
    """Return where this rank computes.

    FedML's GPU mapping if the recipe has one, else a GPU by local rank (ranks on one host share its GPUs evenly),
    else the CPU.
    """
    if not args.using_gpu or not torch.cuda.is_available():
        return torch.device("cpu")
    if getattr(args, "gpu_mapping_file", None):
        import fedml

        device: torch.device = fedml.device.get_device(args)
    else:
        local = next((int(os.environ[key]) for key in _LOCAL_RANK_KEYS if key in os.environ), args.rank)
        device = torch.device("cuda", local % torch.cuda.device_count())
    torch.cuda.set_device(device)  # else pinned memory would open a context on the first GPU too
    return device
