"""The mpirun command that starts a job."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.cli.mpirun.host_faults import HostFaults
from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, attend
from fedclip_plugin.errors import FedClipError

_USUAL = {"--map-by": ":OVERSUBSCRIBE", "--bind-to": "none"}
"""Unless other values are given: ranks may outnumber cores, and threads are shared out by the ranks themselves."""

_RANKS = {"np", "n", "c", "N"}
_HOSTS = {"hostfile", "machinefile", "host", "H", "add-host", "add-hostfile"}
_OF_RANKS = {0, 1, 2, *range(129, 160)}
"""Exit codes with which ranks end, the last of them by a signal; mpirun itself ends with another one (Open MPI 5: 213,
or 66, 181 and 183) when it cannot start them."""


def require_options(words: Sequence[str]) -> tuple[str, ...]:
    """Return options for mpirun that stand after ``--``, which the launcher itself does not give.

    Raises
    ------
    FedClipError
        The first word is no option, or one says how many ranks there are or on which hosts.
    """
    if words and not words[0].startswith("-"):
        raise FedClipError(
            f"{words[0]} after --: there stand options of mpirun, such as -- --mca btl_tcp_if_include 10.0.0.0/24; "
            "what is for fedclip stands before --"
        )
    for word in words:
        name = word.lstrip("-").partition("=")[0] if word.startswith("-") else ""
        if name in _RANKS:
            raise FedClipError(f"{word} after --: the recipe says how many ranks there are; leave it out")
        if name in _HOSTS:
            raise FedClipError(f"{word} after --: give hosts as --hostfile FILE before --, which is checked for room")
        if name == "app":
            raise FedClipError(f"{word} after --: the recipe says what the ranks run; leave it out")
    return tuple(words)


@dataclass(frozen=True)
class Launch:
    """An mpirun command line.

    Attributes
    ----------
    hostfile
        Open MPI's list of hosts; None runs everything here.
    options
        More options of mpirun, as :func:`require_options` returns them.
    """

    ranks: int
    hostfile: Path | None = None
    options: tuple[str, ...] = ()

    def command(self, program: list[str]) -> list[str]:
        """Return mpirun with everything it needs, then ``program``."""
        words = [find_mpirun(), "-np", str(self.ranks)]
        words += [word for pair in _USUAL.items() if pair[0] not in self.options for word in pair]
        if os.geteuid() == 0:
            words.append("--allow-run-as-root")
        if self.hostfile is not None:
            words += ["--hostfile", str(self.hostfile)]
        return [*words, *self.options, *program]

    def attend(self, program: list[str]) -> Ending:
        """Print the command, run it, hand on the signals that end it, and return how it ended.

        Raises
        ------
        FedClipError
            There is no mpirun, it refuses its options, or a host of the hostfile cannot be reached, so that no rank was
            started.
        """
        faults = None if self.hostfile is None else (HostFaults(), HostFaults())
        ending = attend(self._announced(program), _environment(), faults)
        found = next((own.found for own in faults or () if own.found), None)
        if found and not ending.told:
            if not found.began:
                raise FedClipError(f"hostfile {self.hostfile}: {found.text}; nothing was started")
            print(f"fedclip: {found.text}", file=sys.stderr, flush=True)
        elif self.options and not ending.told and ending.code not in _OF_RANKS:
            raise FedClipError(
                f"mpirun refused the options after --, {printable(shlex.join(self.options))}: see its message above; "
                "correct them, or leave them out; nothing was started"
            )
        return ending

    def _announced(self, program: list[str]) -> list[str]:
        command = self.command(program)
        mpi_library()
        print(printable(f"$ {shlex.join(command)}"))
        print("starting the ranks; each of them imports FedML first, which takes some seconds", flush=True)
        return command


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1"}
