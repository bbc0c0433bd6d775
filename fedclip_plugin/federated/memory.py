"""What memory hosts have left, and a refusal to start what cannot fit; no torch."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Self

from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.errors import MemoryShortageError
from fedclip_plugin.federated.footprint import BASE_SHARED, Footprint, footprint
from fedclip_plugin.recipe import Recipe

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_GB = 1e9

_SURE = 0.85
"""Part of an estimate that is needed for certain: estimates are a little high, and what may just fit is not refused."""


@dataclass(frozen=True)
class RankMemory:
    """What one rank says of its host's memory.

    Attributes
    ----------
    name
        Silo, or ``server``.
    host, boot
        Name of its host, and what tells hosts of the same name apart.
    available
        Bytes that the host has to spare.
    held
        Bytes that the rank holds already, beyond what ranks share.
    """

    name: str
    host: str
    boot: str
    available: int
    held: int

    @classmethod
    def here(cls, name: str) -> Self:
        """Return how it is with this process, the rank called ``name``."""
        import psutil  # type: ignore[import-untyped]

        own = psutil.Process().memory_info()
        boot = _BOOT.read_text(encoding="utf-8").strip() if _BOOT.is_file() else ""
        return cls(name, socket.gethostname(), boot, available_bytes(), own.rss - getattr(own, "shared", 0))


def require_memory_here(recipes: Iterable[Recipe]) -> None:
    """Refuse federations that do not fit into this host's memory, one at a time, with all their ranks on it.

    Parameters
    ----------
    recipes
        One or more checked recipes; the largest counts.

    Raises
    ------
    BackboneError
        When a backbone is not on this machine.
    MemoryShortageError
        As :func:`require_memory`.
    """
    locate = cache(locate_backbone)  # one for many cells of a study
    needs = [
        (footprint(recipe, locate(recipe.fedclip_args.backbone)), recipe.train_args.client_num_in_total)
        for recipe in recipes
    ]
    need, silos = max(needs, key=lambda pair: pair[0].on_host(pair[1], server=True))
    require_memory(need, silos, True, available_bytes())


def require_memory_on_hosts(need: Footprint, ranks: Sequence[RankMemory]) -> None:
    """Refuse a federation whose ranks have begun, but do not fit into the memory of one of their hosts.

    Parameters
    ----------
    need
        What its ranks take.
    ranks
        What each of them says, in the order of the ranks: the server first.

    Raises
    ------
    MemoryShortageError
        As :func:`require_memory`, with the names of the host and of its ranks.
    """
    hosts: dict[tuple[str, str], list[RankMemory]] = {}
    for rank in ranks:
        hosts.setdefault((rank.host, rank.boot), []).append(rank)
    for (host, _), here in hosts.items():
        server = here[0] is ranks[0]
        room = min(rank.available for rank in here) + BASE_SHARED + sum(rank.held for rank in here)
        place = f"{host} ({', '.join(rank.name for rank in here)})"
        require_memory(need, len(here) - server, server, room, place)


def require_memory(need: Footprint, silos: int, server: bool, room: int, host: str = "this host") -> None:
    """Refuse a federation that cannot fit into a host's memory.

    Parameters
    ----------
    need
        What its ranks take.
    silos
        Silos' ranks on the host.
    server
        Whether the server's rank is on the host.
    room
        Bytes that there are for them all, what they hold already included.
    host
        The host, for the message.

    Raises
    ------
    MemoryShortageError
        When it does not fit, even if the estimate is high; says what is needed, what there is, and what helps.
    """
    whole = need.on_host(silos, server)
    if whole * _SURE <= room:
        return
    parts = [f"{silos} x {need.silo / _GB:.1f} GB for silos"] * (silos > 0)
    parts += [f"{need.server / _GB:.1f} GB for the server"] * server
    raise MemoryShortageError(
        f"this federation takes up to {whole / _GB:.1f} GB of memory on {host}: {', '.join(parts)}, "
        f"{BASE_SHARED / _GB:.1f} GB for libraries; there are {room / _GB:.1f} GB for it. Take fewer silos "
        "(train_args.client_num_in_total), a smaller train_args.batch_size or a method that trains less, free or add "
        "memory, or spread the ranks over more hosts with fedclip launch --hostfile"
    )


def available_bytes() -> int:
    """Return the bytes that new processes can take before the kernel ends one of them.

    The least of what the host has to spare, swap included, and of what each enclosing control group still allows.
    """
    import psutil

    host = int(psutil.virtual_memory().available) + int(psutil.swap_memory().free)
    return min([host, *cgroup_rooms(_OWN_CGROUPS, _CGROUPS)])


def cgroup_rooms(own: Path, root: Path) -> Iterator[int]:
    """Yield the bytes left in every control group with a limit that this process is in, versions 1 and 2.

    Parameters
    ----------
    own
        ``/proc/self/cgroup``.
    root
        Where control groups are mounted, ``/sys/fs/cgroup``.
    """
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, place in (line.split(":", 2) for line in lines):
        if controllers == "":
            yield from _rooms(root, place, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _rooms(root / "memory", place, limit, usage, "total_")


def _rooms(root: Path, place: str, limit: str, usage: str, prefix: str) -> Iterator[int]:
    """Yield the room in a group and in those around it; in a container only the outermost may be visible."""
    path = PurePosixPath(place.lstrip("/"))
    for folder in (root / part for part in (path, *path.parents)):
        allowed = folder / limit
        if not allowed.is_file() or (text := allowed.read_text().strip()) == "max":
            continue
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = sum(int(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        yield max(0, int(text) - int((folder / usage).read_text()) + cached)  # cached files can be dropped
