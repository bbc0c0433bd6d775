"""Which rank of an mpirun job this process is, as mpirun's environment tells; needs no MPI."""

from __future__ import annotations

import os

from fedclip_edge.machine import cores

_RANK_KEYS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_SIZE_KEYS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_SIZE_KEYS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_THREAD_KEYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def world() -> tuple[int, int] | None:
    """Return rank and number of ranks from mpirun's environment, without MPI; None outside of mpirun."""
    rank = next((int(os.environ[key]) for key in _RANK_KEYS if key in os.environ), None)
    size = next((int(os.environ[key]) for key in _SIZE_KEYS if key in os.environ), None)
    return None if rank is None or size is None else (rank, size)


def one_host() -> bool:
    """Return whether all ranks of this mpirun job are on one machine, as far as its environment tells."""
    here = world()
    local = next((int(os.environ[key]) for key in _LOCAL_SIZE_KEYS if key in os.environ), None)
    return here is None or local == here[1]


def threads_per_rank(ranks: int) -> int:
    """Return the threads of each of ``ranks`` processes that share this host's cores."""
    return max(1, cores() // ranks)


def share_cores() -> int:
    """Give this rank its share of the host's cores, so that ranks do not fight over them; call it before torch comes.

    Returns
    -------
    int
        Threads of this rank. Thread counts that are set in the environment already are left alone.
    """
    ranks_here = next((int(os.environ[key]) for key in _LOCAL_SIZE_KEYS if key in os.environ), 1)
    threads = threads_per_rank(ranks_here)
    for key in _THREAD_KEYS:
        os.environ.setdefault(key, str(threads))
    return threads
