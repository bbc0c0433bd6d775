"""The mpirun command that starts a job."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, attend


@dataclass(frozen=True)
class Launch:
    """An mpirun command line.

    Attributes
    ----------
    hostfile
        Open MPI's list of hosts; None runs everything here.
    """

    ranks: int
    hostfile: Path | None = None

    def command(self, program: list[str]) -> list[str]:
        """Return mpirun with everything it needs, then ``program``."""
        words = [find_mpirun(), "-np", str(self.ranks), "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
        if os.geteuid() == 0:
            words.append("--allow-run-as-root")
        if self.hostfile is not None:
            words += ["--hostfile", str(self.hostfile)]
        return [*words, *program]

    def attend(self, program: list[str]) -> Ending:
        """Print the command, run it, hand on the signals that end it, and return how it ended."""
        return attend(self._announced(program), _environment())

    def _announced(self, program: list[str]) -> list[str]:
        command = self.command(program)
        mpi_library()
        print(printable(f"$ {shlex.join(command)}"))
        print("starting the ranks; each of them imports FedML first, which takes some seconds", flush=True)
        return command


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1"}
