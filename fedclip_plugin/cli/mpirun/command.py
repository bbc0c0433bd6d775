"""The mpirun command that starts a job."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.cli.mpirun.advice import Advice
from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, JobSignals, attend
from fedclip_plugin.errors import FedClipError, FederationError
from fedclip_plugin.federated.stop import SILENT_RANKS, WAITED_IN_VAIN, noted_ranks

_USUAL = {"--map-by": ":OVERSUBSCRIBE", "--bind-to": "none"}
"""Unless other values are given: ranks may outnumber cores, and threads are shared out by the ranks themselves."""

_WHERE = "--report-bindings"
_QUIET_PEERS = ("--mca", "mpi_ft_enable", "1")
"""Lets a rank go on whose connection to another one breaks: else it ends too, on another host often before Open MPI has
heard which rank was the first."""

_RANKS = {"np", "n", "c", "N"}
_HOSTS = {"hostfile", "machinefile", "host", "H", "add-host", "add-hostfile"}
_NOT_STARTED = (66, 181, 183, 213)
"""Exit codes of mpirun (Open MPI 5) when it cannot start the ranks; other ones are theirs, or those of MPI itself."""


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
class Watch:
    """How a job is watched that may be started again.

    Attributes
    ----------
    signals
        What comes meanwhile, also between two jobs.
    note
        The file where the server, on this machine, says which ranks stay silent.
    again
        Whether this is not the first start.
    """

    signals: JobSignals
    note: Path
    again: bool


@dataclass(frozen=True)
class Launch:
    """An mpirun command line.

    Attributes
    ----------
    hostfile
        Open MPI's list of hosts; None runs everything here.
    options
        More options of mpirun, as :func:`require_options` returns them.
    hosts
        What mpirun reads in place of the hostfile, where silos are left out.
    """

    ranks: int
    hostfile: Path | None = None
    options: tuple[str, ...] = ()
    hosts: Path | None = None

    def command(self, program: list[str]) -> list[str]:
        """Return mpirun with everything it needs, then ``program``."""
        words = [find_mpirun(), "-np", str(self.ranks)]
        words += [word for pair in _USUAL.items() if pair[0] not in self.options for word in pair]
        if os.geteuid() == 0:
            words.append("--allow-run-as-root")
        if self.hostfile is not None:
            words += ["--hostfile", str(self.hosts or self.hostfile)]
        return [*words, *self.options, *program]

    def _watched(self, program: list[str]) -> list[str]:
        """Return the command with which mpirun also says where it has put each rank, and which ends first."""
        command = self.command(program)
        where = [] if _WHERE in self.options else [_WHERE]
        return [command[0], *where, *_QUIET_PEERS, *command[1:]]

    def attend(self, program: list[str], watch: Watch | None = None) -> Ending:
        """Print the command, run it, hand on the signals that end it, and return how it ended.

        With ``watch`` the ending tells, as far as it is known, who ended it.

        Raises
        ------
        FedClipError
            There is no mpirun, it refuses its options, or a host of the hostfile cannot be reached, so that no rank was
            started; not in a job that is started again.
        """
        shown = _WHERE in self.options
        advice = Advice(not shown), Advice(not shown)
        signals, again = (watch.signals, watch.again) if watch else (None, False)
        ending = attend(self._announced(program, watch), _environment(watch), advice, signals)
        if ending.code == WAITED_IN_VAIN:  # which the ranks say to the launcher alone
            ending = replace(ending, code=FederationError.exit_code)
        if not ending.told and any(own.ended_well for own in advice):
            ending = replace(ending, code=0)  # how ranks fall that are killed then does not matter
        found = next((own.host for own in advice if own.host), None)
        ending = replace(ending, rank=next((own.rank for own in advice if own.rank), None))
        if watch:
            nodes = {number: node for own in advice for number, node in own.nodes.items()}
            ending = replace(ending, host=found, silent=noted_ranks(watch.note), nodes=nodes)
        if found and not ending.told:
            if not (found.began or again):
                raise FedClipError(f"hostfile {self.hostfile}: {found.text}; nothing was started")
            print(f"fedclip: {found.text}", file=sys.stderr, flush=True)
            ending = replace(ending, code=ending.code or FederationError.exit_code)  # mpirun may end with 0 then
        elif self.options and not ending.told and ending.code in _NOT_STARTED:
            raise FedClipError(
                f"mpirun refused the options after --, {printable(shlex.join(self.options))}: see its message above; "
                "correct them, or leave them out; nothing was started"
            )
        return ending

    def _announced(self, program: list[str], watch: Watch | None) -> list[str]:
        command = self._watched(program) if watch and self.hostfile is not None else self.command(program)
        mpi_library()
        print(printable(f"$ {shlex.join(command)}"))
        print("starting the ranks; each of them imports FedML first, which takes some seconds", flush=True)
        return command


def _environment(watch: Watch | None) -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1"} | ({SILENT_RANKS: str(watch.note)} if watch else {})
