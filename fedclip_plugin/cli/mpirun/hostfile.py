"""Which ranks a hostfile of Open MPI puts on which host, and whether it has room for all of them."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FedClipError

_SLOTS = re.compile(r"(?<![\w-])(slots|max[_-]slots)\s*(?:=\s*(\S*))?", re.IGNORECASE)
_COMMENT = re.compile(r"(#|//).*")
_FORM = "write one line a host, the server's first, such as 'host1 slots=1'"


@dataclass(frozen=True)
class Host:
    """A host and its slots: as its line says, or one for each line that names it.

    None where one line names it without slots: Open MPI then gives it as many ranks as it has cores.
    """

    name: str
    slots: int | None


def read_hostfile(path: Path) -> list[Host]:
    """Read the hosts of a hostfile, in their order.

    Raises
    ------
    FedClipError
        It is missing, cannot be read, names no host, or has a number of slots that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise FedClipError(f"hostfile {path} does not exist: {_FORM}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise FedClipError(f"hostfile {path} cannot be read ({reason}): {_FORM}") from error
    found: dict[str, list[int | None]] = {}
    for number, line in enumerate(lines, 1):
        if words := _COMMENT.sub("", line).split(None, 1):
            where = f"hostfile {path}, line {number}"
            found.setdefault(words[0], []).append(_slots("".join(words[1:]), where))
            if len(found[words[0]]) > 1 and any(found[words[0]]):
                raise FedClipError(f"{where}: {words[0]} is named again: write all its slots= on one line")
    if not found:
        raise FedClipError(f"hostfile {path} names no host: {_FORM}")
    return [Host(name, len(slots) if len(slots) > 1 else slots[0]) for name, slots in found.items()]


def require_slots(path: Path, ranks: int) -> str:
    """See that a hostfile has a slot for every rank, and return what to tell of it: who runs where.

    The job would start with fewer: Open MPI puts the ranks that are left on the first host, where they find another
    silo's images or none.

    Raises
    ------
    FedClipError
        It has fewer slots than there are ranks; errors also as of :func:`read_hostfile`.
    """
    hosts = read_hostfile(path)
    if unsaid := _unsaid(hosts):
        told = f"{path} gives no slots= for {unsaid}, which then take as many ranks as they have cores"
        return printable(f"note: {told}; with slots= you say how many")
    return told_hosts(_placed(path, hosts, ranks))


def rank_hosts(path: Path, ranks: int) -> tuple[str, ...]:
    """Return the host of each rank of a job, by a hostfile that has a slot for every one of them.

    Raises
    ------
    FedClipError
        It does not say how many ranks a host takes; errors also as of :func:`require_slots`.
    """
    hosts = read_hostfile(path)
    if unsaid := _unsaid(hosts):
        raise FedClipError(
            f"hostfile {path} gives no slots= for {unsaid}, so that nobody knows where which silo's rank runs, and a "
            "silo can be left out on its own host alone: write slots= on every line"
        )
    try:
        return _placed(path, hosts, ranks)
    except FedClipError as error:
        raise FedClipError(f"{error}; silos that are left out keep their slots in the file") from error


def hostfile_text(hosts: Sequence[str]) -> str:
    """Return the hostfile of a job whose ranks are to run on these hosts, in this order."""
    return "".join(f"{name} slots={len(list(ranks))}\n" for name, ranks in groupby(hosts))


def told_hosts(hosts: Sequence[str]) -> str:
    """Return which rank runs where, as a line of text."""
    return printable("ranks by host: " + ", ".join(f"{rank} {name}" for rank, name in enumerate(hosts)))


def is_here(host: str) -> bool:
    """Return whether a host of a hostfile is this machine, by its name or one of its addresses."""
    if host in ("localhost", socket.gethostname(), socket.getfqdn()):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_is_own(family, address) for family, _, _, _, address in found)


def _is_own(family: socket.AddressFamily, address: tuple[object, ...]) -> bool:
    """Return whether an address is this machine's: no process can listen on another's."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(address)
        except OSError:
            return False
    return True


def _unsaid(hosts: Sequence[Host]) -> str:
    return ", ".join(host.name for host in hosts if host.slots is None)


def _placed(path: Path, hosts: Sequence[Host], ranks: int) -> tuple[str, ...]:
    room = sum(host.slots or 0 for host in hosts)
    if room < ranks:
        given = ", ".join(f"{host.name} {host.slots}" for host in hosts)
        raise FedClipError(
            f"hostfile {path} has {room} slots ({given}), and the job has {ranks} ranks, the server and {ranks - 1} "
            "silos: add the hosts that lack, or raise slots= of those that are to run several ranks (in an mpirun "
            "command of your own, --map-by :OVERSUBSCRIBE puts more ranks than slots on a host)"
        )
    return tuple(host.name for host in hosts for _ in range(min(host.slots or 0, ranks)))[:ranks]


def _slots(rest: str, where: str) -> int | None:
    """Return how many ranks a host takes: its slots, but no more than its max_slots."""
    found: dict[str, int] = {}
    for key, value in _SLOTS.findall(rest):
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
            raise FedClipError(f"{where}: {key}{f'={value}' if value else ''}: write {key}= and a number of at least 1")
        found[key.lower().replace("-", "_")] = int(value)
    if "slots" not in found:
        return None
    return min(found.values())
