"""What Open MPI says of a host in a block of advice, said in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from fedclip_edge.terminal import printable

_NO_SSH, _NO_DAEMON = 255, 127
"""Exit codes of ssh: itself when it cannot reach a host, and of the shell there that finds no program."""


@dataclass(frozen=True)
class HostFault:
    """What is wrong with a host.

    Attributes
    ----------
    text
        What is wrong, the rule, and how to mend it, in one line.
    began
        Whether the job may have begun; otherwise no rank was started.
    host
        Its name, as Open MPI has it; empty where it names none.
    """

    text: str
    began: bool
    host: str = ""


def host_fault(block: str) -> HostFault | None:
    """Return what a block of Open MPI says of a host; None when it is about something else."""
    return next((fault for read in _READERS if (fault := read(block))), None)


def _unreachable(block: str) -> HostFault | None:
    host = re.search(r"A daemon failed to report back.*Remote host:\s*(\S+)", block, re.DOTALL)
    if host is None:
        return None
    ended = re.search(r"Daemon exit status:\s*(\d+)", block)
    code, name = int(ended[1]) if ended else 0, printable(host[1])
    if code == _NO_SSH:
        rule = f"cannot be reached by ssh: 'ssh {name} true' must work from here without a password or a question"
    elif code == _NO_DAEMON:
        place = printable(sys.prefix)
        rule = f"has no Open MPI at the path that this host has it at: install the same environment there, at {place}"
    else:
        rule = (
            "does not answer, or no longer: it must be up, and both hosts must reach each other on all TCP ports, or "
            "on those that mpirun is told of (docs/silo_operators.md)"
        )
    return HostFault(f"host {name} {rule}", began=code not in (_NO_SSH, _NO_DAEMON), host=host[1])


def _lost(block: str) -> HostFault | None:
    if "lost communication with a remote daemon" not in block:
        return None
    host = re.search(r"Remote daemon:.* on node (\S+)", block)
    name, given = (f"host {printable(host[1])}", host[1]) if host else ("a host", "")
    told = f"the connection to {name} was lost: it is down, or the network between them is"
    return HostFault(told, began=True, host=given)


def _no_agent(block: str) -> HostFault | None:
    if "No available launching agents" not in block and "plm_ssh_agent" not in block:
        return None
    return HostFault(
        "mpirun finds no ssh, by which it starts ranks on other hosts: install openssh-client", began=False
    )


def _no_program(block: str) -> HostFault | None:
    found = re.search(r"could not\s+access an executable.*Executable:\s*(\S+)\s+Node:\s*(\S+)", block, re.DOTALL)
    if found is None:
        return None
    program, host = printable(found[1]), printable(found[2])
    return HostFault(f"host {host} has no {program}: install the same environment there, at the same path", began=False)


_READERS: tuple[Callable[[str], HostFault | None], ...] = (_unreachable, _lost, _no_agent, _no_program)
