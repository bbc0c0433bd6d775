"""Which rank of an mpirun job this process is, as mpirun's environment tells; needs no MPI."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fedclip_edge.machine import cores

_RANK_KEYS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_SIZE_KEYS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_SIZE_KEYS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_THREAD_KEYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def world() -> tuple[int, int] | None:
    """Return rank and number of ranks from mpirun's environment, without MPI; None outside of mpirun."""
    rank, size = _told(_RANK_KEYS), _told(_SIZE_KEYS)
    return None if rank is None or size is None else (rank, size)


def one_host() -> bool:
    """Return whether all ranks of this mpirun job are on one machine, as far as its environment tells."""
    here = world()
    return here is None or _told(_LOCAL_SIZE_KEYS) == here[1]


def _told(keys: Sequence[str]) -> int | None:
    """Return the first of these numbers that is in the environment."""
    return next((int(os.environ[key]) for key in keys if key in os.environ), None)


def threads_per_rank(ranks: int) -> int:
    """Return the threads of each of ``ranks`` processes that share this host's cores."""
    return max(1, cores() // ranks)


def share_cores(away: int = 0) -> int:
    """Return the threads of this rank, its share of the host's cores, so that ranks do not fight over them.

    Call it before torch comes: it sets them in the environment, where they are not set already. On one machine the
    share is the same where ``away`` ranks are left out: with other threads a sum may end in other bits.
    """
    threads = threads_per_rank((_told(_LOCAL_SIZE_KEYS) or 1) + (away if one_host() else 0))
    for key in _THREAD_KEYS:
        os.environ.setdefault(key, str(threads))
    return threads
