"""What Open MPI says of a host in a block of advice, said in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from fedclip_edge.terminal import printable

_FRAME = re.compile(rb"-{40,}\s*")
_LONGEST_BLOCK = 16_384
"""Bytes; what is longer is no block, and is shown as it is."""

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
    """

    text: str
    began: bool


def host_fault(block: str) -> HostFault | None:
    """Return what a block of Open MPI says of a host; None when it is about something else."""
    return next((fault for read in _READERS if (fault := read(block))), None)


class HostFaults:
    """Hands on what mpirun writes on one stream, but for blocks about hosts, which it keeps.

    Attributes
    ----------
    found
        The first of them.
    """

    def __init__(self) -> None:
        self.found: HostFault | None = None
        self._line = b""  # what a line has so far, where it may be a frame
        self._block: bytearray | None = None
        self._kept = False  # whether the last thing was a block that is not shown: the blanks after it are not either

    def pass_on(self, text: bytes) -> bytes:
        """Return what of ``text``, and of what was held back before, is to be shown."""
        shown = bytearray()
        for part in re.split(rb"(?<=\n)", text):
            line, self._line = self._line + part, b""
            if not line or (self._kept and not line.strip()):
                continue
            self._kept = False
            if not line.endswith(b"\n") and (self._block is not None or not line.strip(b"-")):
                self._line = line
            elif self._block is not None:
                self._block += line
                shown += self._in_block(line)
            elif _FRAME.fullmatch(line):
                self._block = bytearray(line)
            else:
                shown += line
        return bytes(shown)

    def rest(self) -> bytes:
        """Return what was held back when nothing more comes."""
        rest = bytes(self._block or b"") + self._line
        self._block, self._line = None, b""
        return rest

    def _in_block(self, line: bytes) -> bytes:
        """Return a block that is over and is to be shown, or nothing."""
        block = bytes(self._block or b"")
        if not _FRAME.fullmatch(line) and len(block) < _LONGEST_BLOCK:
            return b""
        self._block = None
        fault = host_fault(block.decode(errors="replace"))
        if fault is None:
            return block
        self.found, self._kept = self.found or fault, True
        return b""


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
    return HostFault(f"host {name} {rule}", began=code not in (_NO_SSH, _NO_DAEMON))


def _lost(block: str) -> HostFault | None:
    if "lost communication with a remote daemon" not in block:
        return None
    host = re.search(r"Remote daemon:.* on node (\S+)", block)
    name = f"host {printable(host[1])}" if host else "a host"
    return HostFault(f"the connection to {name} was lost: it is down, or the network between them is", began=True)


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
